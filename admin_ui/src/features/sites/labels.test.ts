import { describe, expect, it } from "vitest";

import { readLabels, writtenLabels } from "@/features/sites/labels";

describe("labels", () => {
  it("reads keys and values, which may have an equals sign", () => {
    expect(readLabels(["region=nordics", " scanner = a=b "])).toEqual({
      labels: { region: "nordics", scanner: "a=b" },
      wrong: null,
    });
  });

  it.each([
    [["nordics"], "“nordics” is no label: write key=value."],
    [["=x"], "“=x” is no label: write key=value."],
    [["a=1", "a=2"], "“a” is there twice."],
    [[`${"k".repeat(65)}=1`], `“${"k".repeat(65)}” is too long: a key has at most 64 characters, a value 256.`],
    [Array.from({ length: 33 }, (_, n) => `k${n}=1`), "There are 33 labels, at most 32 fit."],
  ])("says what is wrong with %j", (written, wrong) => expect(readLabels(written).wrong).toBe(wrong));

  it("writes them in the order of their keys", () => {
    expect(writtenLabels({ size: "small", region: "nordics" })).toEqual(["region=nordics", "size=small"]);
  });
});
