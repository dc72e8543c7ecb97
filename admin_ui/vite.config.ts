import { readdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

import react from "@vitejs/plugin-react";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const COMPRESSED = /\.(js|css|svg|html)$/;

/** Writes `name.gz` beside every text asset: the hub sends it as it is. */
function compressed(): Plugin {
  let folder = "";
  return {
    name: "compressed",
    apply: "build",
    configResolved(config) {
      folder = join(config.root, config.build.outDir, "assets");
    },
    async closeBundle() {
      for (const name of await readdir(folder)) {
        if (!COMPRESSED.test(name)) continue;
        const plain = await readFile(join(folder, name));
        await writeFile(join(folder, `${name}.gz`), await promisify(gzip)(plain, { level: 9 }));
      }
    },
  };
}

/** Fills in what the hub fills in when it serves the page, for the development server. */
function served(): Plugin {
  return {
    name: "served",
    apply: "serve",
    transformIndexHtml: (html) =>
      html.replace("__BASE__", "/console/").replace("__NONCE__", "development"),
  };
}

const hub = process.env["HANSA_URL"] ?? "http://127.0.0.1:8400";

export default defineConfig(({ command }) => ({
  // Built assets are found through <base>, which the hub writes: any path prefix works.
  base: command === "build" ? "./" : "/console/",
  plugins: [react(), compressed(), served()],
  resolve: { alias: { "@": fileURLToPath(new URL("src", import.meta.url)) } },
  build: { target: "es2022", modulePreload: { polyfill: false }, chunkSizeWarningLimit: 600 },
  server: { proxy: { "/v1": hub, "/docs": hub, "/openapi.json": hub } },
  test: { include: ["src/**/*.test.{ts,tsx}"], environment: "node" },
}));
