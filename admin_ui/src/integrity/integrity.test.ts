import { readFileSync } from "node:fs";

import { describe, expect, it } from "vitest";

import { canonicalProblem, pythonFloat } from "@/integrity/canonical";
import { digestOfFile, sha256Hex } from "@/integrity/digests";
import { fromBase64url, hex } from "@/integrity/encoding";
import { checkSigned, fingerprintOf, signatureProblem } from "@/integrity/signing";

const VECTORS = new URL("../../../tests/vectors/", import.meta.url);

interface Good {
  purpose: string;
  public: string;
  fingerprint: string;
  payload: string;
  signature: string;
}
interface Bad extends Omit<Good, "fingerprint"> {
  why: string;
}

function read(name: string): string {
  return readFileSync(new URL(name, VECTORS), "utf8");
}

function bytes(text: string): Uint8Array {
  return Uint8Array.from(text.match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
}

const signing = JSON.parse(read("signing.json")) as { good: Good[]; bad: Bad[] };
const receipt = JSON.parse(read("receipt-3.json")) as Record<"body" | "digest" | "signature" | "public_key", string>;

describe("signatures", () => {
  it("has vectors to check", () => {
    expect(signing.good.length).toBeGreaterThan(4);
    expect(signing.bad.length).toBeGreaterThan(8);
  });

  it.each(signing.good.map((one) => [one.purpose, one] as const))("holds for %s", (_, one) => {
    const key = bytes(one.public);
    expect(fingerprintOf(key)).toBe(one.fingerprint);
    expect(signatureProblem(key, one.purpose, bytes(one.payload), bytes(one.signature))).toBeNull();
  });

  it.each(signing.bad.map((one) => [one.why, one] as const))("does not hold: %s", (_, one) => {
    expect(signatureProblem(bytes(one.public), one.purpose, bytes(one.payload), bytes(one.signature))).not.toBeNull();
  });

  it("says who signed a receipt, and not if a letter of it is another", () => {
    const signed = { payload: receipt.body, signature: receipt.signature, publicKey: receipt.public_key };
    expect(checkSigned("receipt", signed)).toEqual({ signer: "kzdv-vj2u-mndu-yauf-35o3-6k6k-w462-mujv" });
    expect(checkSigned("update-manifest", signed)).toHaveProperty("wrong");
    expect(checkSigned("receipt", { ...signed, payload: receipt.body.replace("nordic", "nordik") })).toHaveProperty("wrong");
    expect(checkSigned("receipt", { ...signed, publicKey: `${receipt.public_key}=` })).toHaveProperty("wrong");
  });
});

describe("digests", () => {
  it("are the receipt's name", () => expect(sha256Hex(receipt.body)).toBe(receipt.digest));

  it("are the same of a file in pieces", async () => {
    const told: number[] = [];
    const data = new Uint8Array(5 << 20).fill(7);
    expect(await digestOfFile(new Blob([data]), (done) => told.push(done))).toBe(sha256Hex(data));
    expect(told).toEqual([4 << 20, 5 << 20]);
  }, 60_000);
});

describe("base64url", () => {
  it("reads what the hub writes", () => expect(hex(fromBase64url("AAEC_-8"))).toBe("000102ffef"));
  it.each(["AA=", "A", "AB", "A+A", "AA\n"])("refuses %j", (text) => expect(() => fromBase64url(text)).toThrow());
});

describe("canonical JSON", () => {
  const texts = [...read("canonical.json").matchAll(/"canonical": ("(?:[^"\\]|\\.)*")/g)].map(
    (found) => JSON.parse(found[1] ?? "") as string,
  );

  it("knows the repository's examples", () => {
    expect(texts.length).toBeGreaterThan(20);
    for (const text of texts) expect(canonicalProblem(text), text).toBeNull();
    expect(canonicalProblem(receipt.body)).toBeNull();
  });

  it.each([
    ['{"b":1,"a":2}', "out of order"],
    ['{"a":1,"a":2}', "twice"],
    ['{"a": 1}', "no value"],
    ["[1,]", "no value"],
    ["1.00", "shortest"],
    ["1e2", "shortest"],
    ["01", "follows"],
    ["-0", "64 bits"],
    ["18446744073709551616", "64 bits"],
    ["NaN", "no value"],
    ['"\\u0041"', "escape"],
    ['"\\/"', "escape"],
    ['"\\u001F"', "escape"],
    ['"\\u000a"', "escape"],
    ['"\ud800"', "half"],
    ["[1]\n", "follows"],
    [`${"[".repeat(40)}${"]".repeat(40)}`, "deeper"],
    ['{"a":1', "end"],
    ['"open', "escape"],
  ])("refuses %s", (text, why) => expect(canonicalProblem(text)).toContain(why));

  it.each([
    [1, "1.0"],
    [1e15, "1000000000000000.0"],
    [1e16, "1e+16"],
    [1.5e-7, "1.5e-07"],
    [0.0001, "0.0001"],
    [-123.456, "-123.456"],
    [5e-324, "5e-324"],
    [1e300, "1e+300"],
  ])("writes %d as Python does", (value, text) => expect(pythonFloat(value)).toBe(text));
});
