import { describe, expect, it } from "vitest";

import { slugOf } from "@/features/federations/slugs";

describe("a slug", () => {
  it.each([
    ["Heart disease, four hospitals", "heart-disease-four-hospitals"],
    ["  Zürich & Łódź  ", "zurich-odz"],
    ["---", ""],
    ["a".repeat(80), "a".repeat(64)],
  ])("of %s is %s", (name, slug) => expect(slugOf(name)).toBe(slug));

  it("ends with a letter or digit even where it is cut", () => {
    expect(slugOf(`${"a".repeat(63)} b`)).toBe("a".repeat(63));
  });
});
