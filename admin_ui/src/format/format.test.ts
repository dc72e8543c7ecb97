import { describe, expect, it } from "vitest";

import { formatBytes, formatMetric, formatShare } from "@/format/sizes";
import { formatRelative, formatSeconds } from "@/format/times";
import { humane, plural } from "@/format/words";

describe("sizes", () => {
  it.each([
    [0, "0 B"],
    [999, "999 B"],
    [1000, "1 kB"],
    [1404, "1.4 kB"],
    [999_499, "999 kB"],
    [999_500, "1 MB"],
    [12_340_000, "12.3 MB"],
    [5e15, "5 PB"],
    [5e18, "5000 PB"],
  ])("tells %d bytes as %s", (bytes, told) => expect(formatBytes(bytes)).toBe(told));

  it("does not round what is missing away", () => {
    expect(formatShare(999, 1000)).toBe("99 %");
    expect(formatShare(1000, 1000)).toBe("100 %");
    expect(formatShare(0, 0)).toBe("–");
  });

  it.each([
    [0.847213, "0.8472"],
    [0, "0"],
    [0.00001203, "1.203e-5"],
    [123456, "123500"],
    [Number.NaN, "NaN"],
  ])("tells the metric %d as %s", (value, told) => expect(formatMetric(value)).toBe(told));
});

describe("times", () => {
  it.each([
    [0.45, "450 ms"],
    [8.21, "8.2 s"],
    [9.97, "10 s"],
    [59.6, "1 min"],
    [200, "3 min 20 s"],
    [7500, "2 h 5 min"],
    [86_400 * 4 + 3600 * 3, "4 d 3 h"],
  ])("tells %d s as %s", (seconds, told) => expect(formatSeconds(seconds)).toBe(told));

  it("tells the past and the future", () => {
    const now = new Date("2026-05-01T12:00:00Z");
    expect(formatRelative(new Date("2026-05-01T11:57:00Z"), now)).toBe("3 min ago");
    expect(formatRelative(new Date("2026-05-01T14:00:00Z"), now)).toBe("in 2 h");
    expect(formatRelative(new Date("2026-05-01T11:59:58Z"), now)).toBe("just now");
    expect(formatRelative(new Date("2026-05-01T12:00:09Z"), now)).toBe("just now");
    expect(formatRelative(new Date("2026-05-04T11:59:00Z"), now)).toBe("in 3 d");
    expect(formatRelative(new Date("2026-04-28T12:01:00Z"), now)).toBe("2 d ago");
  });
});

describe("words", () => {
  it("counts", () => {
    expect(plural(1, "site")).toBe("1 site");
    expect(plural(1200, "site")).toBe("1,200 sites");
  });
  it("makes names humane", () => expect(humane("staleness_exponent")).toBe("Staleness exponent"));
});
