import { readFileSync } from "node:fs";

import { describe, expect, it } from "vitest";

import type { RoundAccount } from "@/features/receipts/body";
import { readBody } from "@/features/receipts/body";
import { excludedOf, partsOf, sentenceOf, titleOf } from "@/features/receipts/tell";
import { verifyCommand } from "@/features/receipts/verification/command";

function body(name: string) {
  const url = new URL(`../../../../tests/vectors/${name}`, import.meta.url);
  return readBody((JSON.parse(readFileSync(url, "utf8")) as { body: string }).body);
}

describe("a receipt", () => {
  const said = body("receipt.json");
  const round = said.round as RoundAccount;

  it("is told", () => {
    expect(titleOf(said)).toMatch(/^Round \d+/);
    expect(sentenceOf(said)).toMatch(/^Training completed: \d sites? asked, \d answered, \d updates? used/);
  });

  it("has a row for every site, those that counted first", () => {
    const parts = partsOf(round);
    expect(parts).toHaveLength(round.cohort.length);
    const used = parts.map((part) => part.weight !== null);
    expect(used).toEqual([...used].sort((one, other) => Number(other) - Number(one)));
  });

  it("groups the sites that were not asked", () => {
    const excluded = ["a", "b", "c"].map((site) => ({ site, reason: site === "c" ? "late" : "offline" }));
    expect(excludedOf({ ...round, excluded })).toEqual([
      { reason: "offline", sites: ["a", "b"] },
      { reason: "late", sites: ["c"] },
    ]);
  });
});

it("names the command with the keys that are known", () => {
  expect(verifyCommand("heart", "r1")).toBe("hansa verify r1 --federation heart");
  const trust = { hubKeys: new Set(["k1"]), siteKeys: new Map([["oslo", new Set(["k2"])]]) };
  expect(verifyCommand("heart", "r1", trust)).toBe("hansa verify r1 --federation heart \\\n  --hub-key k1 \\\n  --site-key oslo=k2");
});
