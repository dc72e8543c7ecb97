import { describe, expect, it } from "vitest";

import { compareFingerprints } from "@/features/sites/fingerprints";

const OURS = "abcd-efgh-ijkl-mnop";

describe("fingerprints", () => {
  it.each([
    [OURS, "same"],
    [" ABCD efgh-IJKL mnop ", "same"],
    ["", "open"],
    ["abcd-ef", "open"],
    ["abcd-efgx", "different"],
    ["abcd-efgh-ijkl-mnop-2222", "different"],
    ["xbcd", "different"],
  ])("judges %s as %s", (typed, verdict) => expect(compareFingerprints(OURS, typed).verdict).toBe(verdict));

  it("says which group differs", () => {
    const { groups } = compareFingerprints(OURS, "abcd-xfgh-ij");
    expect(groups.map((group) => group.verdict)).toEqual(["same", "different", "open", "open"]);
    expect(groups[1]).toEqual({ expected: "efgh", typed: "xfgh", verdict: "different" });
  });
});
