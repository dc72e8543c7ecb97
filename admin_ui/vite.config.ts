import { readdir, readFile, writeFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { join } from "node:path";
import { promisify } from "node:util";
import { gzip } from "node:zlib";

import react from "@vitejs/plugin-react";
import type { Plugin } from "vite";
import { defineConfig } from "vitest/config";

const COMPRESSED = /\.(js|css|svg|html)$/;

/** What the hub's own page at /docs loads, and under what terms it may be passed on. */
const REFERENCE = [
  "swagger-ui-bundle.js",
  "swagger-ui-bundle.js.LICENSE.txt",
  "swagger-ui.css",
  "LICENSE",
  "NOTICE",
];

/** Puts Swagger UI into `reference/`, under its own names: no page of the console loads it. */
function reference(): Plugin {
  return {
    name: "reference",
    apply: "build",
    async generateBundle() {
      for (const name of REFERENCE) {
        const source = await readFile(new URL(`node_modules/swagger-ui-dist/${name}`, import.meta.url));
        const kept = name.includes(".") ? name : `${name}.txt`;
        this.emitFile({ type: "asset", fileName: `reference/${kept}`, source });
      }
    },
  };
}

/** Writes `name.gz` beside every text asset: the hub sends it as it is. */
function compressed(): Plugin {
  return {
    name: "compressed",
    apply: "build",
    async writeBundle({ dir }) {
      for (const part of ["assets", "reference"]) {
        const folder = join(dir ?? "dist", part);
        for (const name of await readdir(folder)) {
          if (!COMPRESSED.test(name)) continue;
          const plain = await readFile(join(folder, name));
          await writeFile(join(folder, `${name}.gz`), await promisify(gzip)(plain, { level: 9 }));
        }
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
  plugins: [react(), reference(), compressed(), served()],
  resolve: { alias: { "@": fileURLToPath(new URL("src", import.meta.url)) } },
  build: {
    target: "es2022",
    // Browsers that know light-dark(): what stands in for it elsewhere would lose the colours.
    cssTarget: ["chrome123", "edge123", "firefox120", "safari17.5"],
    assetsInlineLimit: 0, // the content security policy refuses data: addresses
    modulePreload: { polyfill: false },
    chunkSizeWarningLimit: 600,
  },
  server: { proxy: { "/v1": hub, "/docs": hub, "/openapi.json": hub, "/console/reference": hub } },
  test: { include: ["src/**/*.test.{ts,tsx}"], environment: "node" },
}));
