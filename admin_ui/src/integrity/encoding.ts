/** Bytes as text, and back: strict, so that no two texts mean the same bytes. */

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const encoder = new TextEncoder();

export function utf8(text: string): Uint8Array {
  return encoder.encode(text);
}

export function hex(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) text += byte.toString(16).padStart(2, "0");
  return text;
}

/**
 * Returns the bytes of base64url without padding (RFC 4648, section 5), as the hub writes it.
 *
 * @throws Error: padding, white space, another alphabet, or bits that stand for nothing.
 */
export function fromBase64url(text: string): Uint8Array {
  const bytes = new Uint8Array(Math.floor((text.length * 6) / 8));
  let bits = 0;
  let held = 0;
  let at = 0;
  for (const character of text) {
    const value = ALPHABET.indexOf(character);
    if (value < 0) throw new Error(`not base64url without padding: ${text.slice(0, 80)}`);
    held = (held << 6) | value;
    bits += 6;
    if (bits >= 8) {
      bits -= 8;
      bytes[at] = held >> bits;
      at += 1;
      held &= (1 << bits) - 1;
    }
  }
  if (bits >= 6 || held !== 0) throw new Error(`not the canonical base64url of its bytes: ${text.slice(0, 80)}`);
  return bytes;
}

const BASE32 = "abcdefghijklmnopqrstuvwxyz234567";

/** Returns lower-case base32 (RFC 4648); the bytes must fill whole characters. */
export function base32(bytes: Uint8Array): string {
  let text = "";
  let bits = 0;
  let held = 0;
  for (const byte of bytes) {
    held = (held << 8) | byte;
    bits += 8;
    while (bits >= 5) {
      bits -= 5;
      text += BASE32.charAt(held >> bits);
      held &= (1 << bits) - 1;
    }
  }
  return text;
}
