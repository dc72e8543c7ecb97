import { describe, expect, it } from "vitest";

import { ticksOf } from "@/components/charts/scales";

describe("ticks", () => {
  it.each([
    [0.4, 0.93, [0.4, 0.6, 0.8, 1]],
    [0, 1, [0, 0.25, 0.5, 0.75, 1]],
    [0.51, 0.92, [0.4, 0.6, 0.8, 1]],
    [0.0012, 0.0019, [0.0012, 0.0014, 0.0016, 0.0018, 0.002]],
    [-3, 7, [-5, -2.5, 0, 2.5, 5, 7.5]],
    [1200, 98_000, [0, 25_000, 50_000, 75_000, 100_000]],
  ])("from %d to %d are round numbers", (least, most, ticks) => {
    expect(ticksOf(least, most)).toEqual(ticks);
  });

  it("of one value lie around it", () => {
    for (const value of [0.886, 0, -4]) {
      const found = ticksOf(value, value);
      expect(found.length).toBeGreaterThanOrEqual(2);
      expect(found[0]).toBeLessThanOrEqual(value);
      expect(found.at(-1)).toBeGreaterThanOrEqual(value);
    }
  });
});
