import { describe, expect, it } from "vitest";

import type { CurveSeries } from "@/components/charts/curveData";
import { curveRows, lastPoint, nearest, sparkPoints } from "@/components/charts/curveData";

const mean: CurveSeries = { name: "mean", rounds: [1, 2, 4], values: [0.9, null, 0.5] };
const oslo: CurveSeries = { name: "oslo.no", rounds: [2, 3], values: [0.8, Number.NaN], faint: true };
const bern: CurveSeries = { name: "bern", rounds: [4], values: [0.1], faint: true };

describe("rows of a chart", () => {
  it("joins series by round and leaves out what is no number", () =>
    expect(curveRows([mean, oslo, bern])).toEqual([
      { round: 1, s0: 0.9 },
      { round: 2, s1: 0.8 },
      { round: 4, s0: 0.5, s2: 0.1 },
    ]));
});

describe("what lies near the pointer", () => {
  const many: CurveSeries[] = Array.from({ length: 50 }, (_, at) => ({
    name: `site ${at}`,
    rounds: [1],
    values: [at],
    faint: at > 0,
  }));
  const [row] = curveRows(many);

  it("keeps the foreground, then the nearest of the background, high to low", () => {
    if (row === undefined) throw new Error("no row");
    const { entries, left } = nearest(row, many, 30, 4);
    expect(entries.map((entry) => entry.value)).toEqual([0, 31, 30, 29]);
    expect(left).toBe(46);
  });
});

describe("a series' end", () => {
  it("is its last number", () => {
    expect(lastPoint(mean)).toEqual({ round: 4, value: 0.5 });
    expect(lastPoint({ rounds: [1], values: [null] })).toBeNull();
  });
});

describe("a sparkline", () => {
  it("fills its box, high values above", () =>
    expect(sparkPoints([1, null, 3], 24, 14)).toEqual([
      { x: 2, y: 12 },
      { x: 22, y: 2 },
    ]));
  it("draws a flat line in the middle and nothing of nothing", () => {
    expect(sparkPoints([5, 5], 24, 14).map((point) => point.y)).toEqual([7, 7]);
    expect(sparkPoints([null], 24, 14)).toEqual([]);
  });
});
