/**
 * Ed25519 signatures with a purpose, as hansa_core.signing defines them. What is signed is
 *
 *     "hansa/1\n" + purpose + "\n" + payload
 *
 * so a signature made for one purpose never holds for another.
 */
import * as ed25519 from "@noble/ed25519";
import { sha256, sha512 } from "@noble/hashes/sha2.js";

import { base32, fromBase64url, utf8 } from "@/integrity/encoding";

ed25519.hashes.sha512 = sha512;

export type Purpose = "receipt" | "update-manifest";

const KEY_SIZE = 32; // bytes
const SIGNATURE_SIZE = 64;
const FINGERPRINT_SIZE = 20; // bytes of the key's SHA-256

/** Returns a public key's fingerprint: eight groups of four characters, for people to compare. */
export function fingerprintOf(publicKey: Uint8Array): string {
  if (publicKey.length !== KEY_SIZE) {
    throw new Error(`the public key has ${publicKey.length} bytes, wanted ${KEY_SIZE}`);
  }
  const text = base32(sha256(publicKey).subarray(0, FINGERPRINT_SIZE));
  return (text.match(/.{4}/g) ?? []).join("-");
}

/** Returns what is wrong with a signature, or null when it is this key's for this purpose and payload. */
export function signatureProblem(
  publicKey: Uint8Array,
  purpose: string,
  payload: Uint8Array,
  signature: Uint8Array,
): string | null {
  if (publicKey.length !== KEY_SIZE) return `the public key has ${publicKey.length} bytes, wanted ${KEY_SIZE}`;
  if (signature.length !== SIGNATURE_SIZE) {
    return `the ${purpose} signature has ${signature.length} bytes, wanted ${SIGNATURE_SIZE}`;
  }
  const context = utf8(`hansa/1\n${purpose}\n`);
  const signed = new Uint8Array(context.length + payload.length);
  signed.set(context);
  signed.set(payload, context.length);
  // As RFC 8032 has it, without the tolerance of ZIP 215.
  if (ed25519.verify(signature, signed, publicKey, { zip215: false })) return null;
  return `the ${purpose} signature does not verify with key ${fingerprintOf(publicKey)}`;
}

export interface Signed {
  payload: string;
  signature: string; // base64url
  publicKey: string; // base64url
}

/** Checks a signature in its text form; returns who signed, or what is wrong. */
export function checkSigned(purpose: Purpose, signed: Signed): { signer: string } | { wrong: string } {
  try {
    const key = fromBase64url(signed.publicKey);
    const wrong = signatureProblem(key, purpose, utf8(signed.payload), fromBase64url(signed.signature));
    return wrong === null ? { signer: fingerprintOf(key) } : { wrong };
  } catch (error) {
    return { wrong: error instanceof Error ? error.message : String(error) };
  }
}

/** Returns a fingerprint as it is compared: without white space, in lower case. */
export function tidyFingerprint(text: string): string {
  return text.replaceAll(/\s+/g, "").toLowerCase();
}

export function isFingerprint(text: string): boolean {
  return /^([a-z2-7]{4}-){7}[a-z2-7]{4}$/.test(text);
}
