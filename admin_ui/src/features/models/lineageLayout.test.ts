import { describe, expect, it } from "vitest";

import { place, roundsOf, tellParent } from "@/features/models/lineageLayout";
import type { LineageRun } from "@/features/models/models";

function base(id: string, more: Partial<LineageRun> = {}): LineageRun {
  return {
    run_id: null,
    run_name: null,
    state: null,
    from_checkpoint_id: null,
    from_run_id: null,
    from_round: null,
    first: 0,
    last: 0,
    checkpoints: 1,
    latest_checkpoint_id: id,
    created_at: "2026-03-01T12:00:00Z",
    metric: null,
    ...more,
  };
}

function run(id: string, from: { checkpoint?: string; run?: string; round?: number }): LineageRun {
  return base(`${id}-last`, {
    run_id: id,
    run_name: id,
    state: "completed",
    from_checkpoint_id: from.checkpoint ?? "some",
    from_run_id: from.run ?? null,
    from_round: from.round ?? null,
    first: 1,
    last: 12,
    checkpoints: 12,
  });
}

function at(lineage: LineageRun[]): Record<string, [column: number, row: number]> {
  return Object.fromEntries(place(lineage).nodes.map((one) => [one.key, [one.column, one.row]]));
}

describe("a lineage", () => {
  it("goes on in a row, and forks below", () => {
    const lineage = [
      base("b"),
      run("one", { checkpoint: "b" }),
      run("two", { run: "one", round: 6 }),
      run("three", { run: "two", round: 12 }),
      run("four", { run: "one", round: 12 }),
      run("five", { checkpoint: "b" }),
    ];
    expect(at(lineage)).toEqual({ b: [0, 0], one: [1, 0], two: [2, 0], three: [3, 0], four: [2, 1], five: [1, 2] });
  });

  it("keeps no two nodes in one place", () => {
    const lineage = [base("b"), ...Array.from({ length: 60 }, (_, n) => run(`r${n}`, n % 3 === 0 ? { checkpoint: "b" } : { run: `r${n - 1 - (n % 2)}` }))];
    const places = place(lineage).nodes.map((one) => `${one.column} ${one.row}`);
    expect(new Set(places).size).toBe(61);
  });

  it("begins anew with what has no known origin", () => {
    expect(at([run("one", { run: "gone" }), base("b", { from_checkpoint_id: "gone" }), base("c", { from_checkpoint_id: "b" })])).toEqual({
      one: [0, 0],
      b: [0, 1],
      c: [1, 1],
    });
  });

  it("draws an edge for each descent, and is as large as its nodes", () => {
    const { edges, nodes, width, height } = place([base("b"), run("one", { checkpoint: "b" }), run("two", { checkpoint: "b" })]);
    expect(edges.map((one) => one.key)).toEqual(["one", "two"]);
    expect(edges[0]?.path).toMatch(/^M\d+ \d+H\d+$/);
    for (const { x, y } of nodes) {
      expect(x + 212).toBeLessThan(width);
      expect(y + 74).toBeLessThan(height);
    }
    expect(place([])).toMatchObject({ nodes: [], edges: [] });
  });

  it("is laid out however deep it is", () => {
    const lineage = Array.from({ length: 5000 }, (_, n) => run(`r${n}`, n === 0 ? { run: "gone" } : { run: `r${n - 1}` }));
    expect(place(lineage).nodes.at(-1)).toMatchObject({ column: 4999, row: 0 });
  });

  it("is told in words", () => {
    const { nodes } = place([base("b"), run("one", { checkpoint: "b" }), run("two", { run: "one", round: 6 })]);
    expect(nodes.map(tellParent)).toEqual(["a beginning", "goes on from an uploaded base", "goes on from run one"]);
    expect(roundsOf(run("x", {}))).toBe("rounds 1 to 12");
    expect(roundsOf(base("x", { checkpoints: 0 }))).toBe("no checkpoint yet");
  });
});
