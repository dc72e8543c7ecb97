/** SHA-256 in JavaScript: the browser's own is there only on https and on localhost. */
import { sha256 } from "@noble/hashes/sha2.js";

import { hex, utf8 } from "@/integrity/encoding";

const CHUNK = 4 << 20; // bytes of a file in memory at once

/** Returns the SHA-256 of bytes, or of a text's UTF-8, in lower-case hex. */
export function sha256Hex(data: Uint8Array | string): string {
  return hex(sha256(typeof data === "string" ? utf8(data) : data));
}

/** Returns the SHA-256 of a file, read piece by piece; `tell` hears how many bytes are done. */
export async function digestOfFile(file: Blob, tell?: (bytes: number) => void, signal?: AbortSignal): Promise<string> {
  const hash = sha256.create();
  for (let from = 0; from < file.size; from += CHUNK) {
    signal?.throwIfAborted();
    const piece = file.slice(from, from + CHUNK);
    hash.update(new Uint8Array(await piece.arrayBuffer()));
    tell?.(from + piece.size);
  }
  return hex(hash.digest());
}
