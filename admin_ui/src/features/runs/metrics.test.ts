import { describe, expect, it } from "vitest";

import { best, curveName, latest, lowerIsBetter, ranked, withSites } from "@/features/runs/metrics";

function curve(kind: string, name: string, aggregated: (number | null)[] = []) {
  return { kind, name, rounds: aggregated.map((_, at) => at), aggregated, examples: [], sites: [] };
}

const all = [curve("train", "loss"), curve("eval", "loss"), curve("eval", "accuracy"), curve("train", "accuracy")];

describe("the metric that matters most", () => {
  it("is a score on held-out data", () =>
    expect(ranked(all).map((one) => `${one.kind} ${one.name}`)).toEqual([
      "eval accuracy",
      "eval loss",
      "train accuracy",
      "train loss",
    ]));
  it("is what the run stops by", () => {
    const stops = { metric: "loss", source: "train", mode: "min", patience: 5, min_delta: 0 } as const;
    expect(ranked(all, stops)[0]).toMatchObject({ kind: "train", name: "loss" });
  });
});

describe("better", () => {
  it("is less of a loss and more of a score", () => {
    expect(lowerIsBetter(curve("eval", "val_loss"))).toBe(true);
    expect(lowerIsBetter(curve("eval", "auc"))).toBe(false);
  });
  it("is what the plan says", () => {
    const stops = { metric: "cost", source: "eval", mode: "max", patience: 5, min_delta: 0 } as const;
    expect(lowerIsBetter(curve("eval", "cost"), stops)).toBe(false);
  });
  it("finds the first best and the last number", () => {
    const loss = curve("eval", "loss", [3, 1, null, 1, 2, null]);
    expect(best(loss, true)).toEqual({ value: 1, round: 1 });
    expect(best(loss, false)).toEqual({ value: 3, round: 0 });
    expect(latest(loss)).toEqual({ value: 2, round: 4 });
    expect(best(curve("eval", "loss", [null]), true)).toBeNull();
  });
  it("has a name that people read", () => expect(curveName(curve("train", "loss"))).toBe("loss in training"));
});

describe("sites asked for by themselves", () => {
  const site = (id: string) => ({ site_id: id, site_name: id, values: [1, 2] });
  const told = [{ ...curve("eval", "loss", [1, 2]), sites: [site("oslo")] }];

  it("come beside those that were told", () => {
    const more = [{ ...curve("eval", "loss", [1, 2]), sites: [site("oslo"), site("turku")] }];
    expect(withSites(told, more)[0]?.sites.map((one) => one.site_name)).toEqual(["oslo", "turku"]);
  });
  it("wait where their rounds are not the curve's", () => {
    const more = [{ ...curve("eval", "loss", [1, 2, 3]), sites: [site("turku")] }];
    expect(withSites(told, more)).toEqual(told);
  });
});
