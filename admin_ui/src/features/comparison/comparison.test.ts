import { describe, expect, it } from "vitest";

import type { Round, Run } from "@/api/types";
import { along, courseOf, metricRows, planRows, tellApart, unitFor } from "@/features/comparison/comparison";
import type { RunCurves } from "@/features/runs/runs";

function curves(run_id: string, loss: (number | null)[], accuracy?: number[]): RunCurves {
  const curve = (name: string, values: (number | null)[]) => ({
    kind: "eval",
    name,
    rounds: values.map((_, at) => at),
    aggregated: values,
    examples: values.map(() => 10),
    sites: [],
  });
  return { run_id, run_name: run_id, reporting: [], curves: [curve("loss", loss), ...(accuracy ? [curve("accuracy", accuracy)] : [])] };
}

const plain = { plan: { early_stopping: null } } as unknown as Run;

describe("planRows", () => {
  const one = { name: "a", rounds: 3, strategy: { name: "fedavg" }, secure: null, training: { lr: 0.1 } };
  const other = { name: "b", rounds: 3, strategy: { name: "fedprox", mu: 0.1 }, secure: { lanes: 3 }, training: {} };
  const rows = planRows([one, other]);

  it("tells where plans differ, whatever they are called", () => {
    expect(rows.filter((row) => !row.isSame)).toEqual([
      { path: "strategy.name", values: ["fedavg", "fedprox"], isSame: false },
      { path: "strategy.mu", values: [undefined, 0.1], isSame: false },
      { path: "secure.lanes", values: [undefined, 3], isSame: false },
      { path: "training.lr", values: [0.1, undefined], isSame: false },
    ]);
  });

  it("knows what is the same in all", () => {
    expect(rows.filter((row) => row.isSame).map((row) => row.path)).toEqual(["rounds"]);
  });
});

describe("metricRows", () => {
  it("finds the best run of each metric, by the way that is better for it", () => {
    const rows = metricRows([curves("a", [0.9, 0.5, 0.6], [0.5, 0.8, 0.7]), curves("b", [0.9, 0.4], [0.5, 0.7])], [plain, plain]);
    const accuracy = rows.find((row) => row.key === "eval.accuracy");
    const loss = rows.find((row) => row.key === "eval.loss");
    expect(accuracy).toMatchObject({ isLower: false, bestOf: new Set([0]) });
    expect(accuracy?.best[0]).toEqual({ value: 0.8, round: 1 });
    expect(accuracy?.last[0]).toEqual({ value: 0.7, round: 2 });
    expect(loss).toMatchObject({ isLower: true, bestOf: new Set([1]) });
  });

  it("calls nobody best where only one run has numbers, and all of those that are equal", () => {
    const alone = metricRows([curves("a", [0.5]), curves("b", [null])], [plain, plain])[0];
    expect(alone?.bestOf.size).toBe(0);
    expect(alone?.best).toEqual([{ value: 0.5, round: 0 }, null]);
    expect(metricRows([curves("a", [0.5]), curves("b", [0.5])], [plain, plain])[0]?.bestOf).toEqual(new Set([0, 1]));
  });

  it("takes runs without curves as runs without numbers", () => {
    expect(metricRows([undefined, curves("b", [0.5])], [plain, plain])[0]?.best[0]).toBeNull();
  });
});

function round(number: number, state: string, closed: string, bytes_up: number, kind = "train"): Round {
  return { number, state, kind, closed_at: closed, counts: { bytes_up } } as unknown as Round;
}

describe("courseOf", () => {
  it("adds up what was sent, tries that failed too, and the time since the start", () => {
    const rounds = [
      round(2, "completed", "2026-01-01T00:03:00Z", 20),
      round(2, "failed", "2026-01-01T00:02:00Z", 5),
      round(1, "completed", "2026-01-01T00:01:00Z", 10),
    ];
    const course = courseOf({ started_at: "2026-01-01T00:00:00Z" }, rounds);
    expect([...course.bytes]).toEqual([[0, 0], [1, 10], [2, 35]]);
    expect([...course.seconds]).toEqual([[0, 0], [1, 60], [2, 180]]);
  });
});

describe("along", () => {
  const series = { name: "a", rounds: [0, 1, 2], values: [0.9, 0.5, 0.4] };
  const course = { bytes: new Map([[0, 0], [1, 2e6]]), seconds: new Map([[1, 90]]) };

  it("moves points to where their rounds were, and leaves out what is not known", () => {
    expect(along(series, course, "bytes", { label: "MB", size: 1e6 })).toEqual({ name: "a", rounds: [0, 2], values: [0.9, 0.5] });
    expect(along(series, undefined, "time", { label: "seconds", size: 1 }).rounds).toEqual([]);
    expect(along(series, course, "round", { label: "", size: 1 })).toBe(series);
  });
});

describe("unitFor", () => {
  it("takes the largest unit that leaves two digits", () => {
    expect(unitFor("bytes", 4.2e6).label).toBe("kB");
    expect(unitFor("bytes", 42e6).label).toBe("MB");
    expect(unitFor("time", 120).label).toBe("seconds");
    expect(unitFor("time", 7200).label).toBe("minutes");
  });
});

describe("tellApart", () => {
  it("adds an id to names that several runs have", () => {
    expect(tellApart([{ id: "1-aaaaaa", name: "x" }, { id: "2-bbbbbb", name: "x" }, { id: "3", name: "y" }])).toEqual([
      "x (aaaaaa)", "x (bbbbbb)", "y",
    ]);
  });
});
