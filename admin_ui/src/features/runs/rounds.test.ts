import { describe, expect, it } from "vitest";

import type { Round, Run } from "@/api/types";
import { activeSeconds, joinRounds, outcomeOf, roundName, secondsLeft } from "@/features/runs/rounds";
import { barSays, bars, roundsPerBar } from "@/features/runs/strip";

const START = Date.parse("2026-05-01T12:00:00Z");
const NOW = new Date(START + 100_000);

function at(seconds: number): string {
  return new Date(START + 1000 * seconds).toISOString();
}

function round(number: number, changes: Partial<Round> = {}): Round {
  return {
    id: `round-${number}`,
    run_id: "run",
    number,
    retry: 0,
    kind: "train",
    state: "completed",
    state_reason: null,
    base_checkpoint_id: "base",
    checkpoint_id: null,
    threshold: 1,
    deadline_at: at(3600),
    created_at: at(10 * (number - 1)),
    closed_at: at(10 * number),
    ...changes,
  };
}

const counts = { open: 0, claimed: 0, done: 3, failed: 0, late: 0, cancelled: 0, excluded: 0, bytes_up: 0 };

function run(changes: Partial<Run>): Run {
  return {
    state: "running",
    started_at: at(0),
    active_seconds: 0,
    rounds_completed: 2,
    plan: { rounds: 5 },
    ...changes,
  } as Run;
}

describe("time left", () => {
  const rounds = [round(3, { state: "collecting", closed_at: null, created_at: at(96) }), round(2), round(1)];
  it("is the usual round, as often as is left, less what the open one has had", () =>
    expect(secondsLeft(run({}), rounds, NOW)).toBe(3 * 10 - 4));
  it("is not known before the first round and at the end", () => {
    expect(secondsLeft(run({ rounds_completed: 0 }), [], NOW)).toBeNull();
    expect(secondsLeft(run({ rounds_completed: 5 }), rounds, NOW)).toBeNull();
  });
});

describe("active time", () => {
  it("counts from the start of a run that was never paused", () => expect(activeSeconds(run({}), [], NOW)).toBe(100));
  it("is what the hub says of one that rests", () =>
    expect(activeSeconds(run({ state: "paused", active_seconds: 42 }), [], NOW)).toBe(42));
});

describe("a list of rounds", () => {
  it("takes the newer of two views of a round", () => {
    const open = round(2, { state: "collecting" });
    expect(joinRounds([round(3), round(2)], [open, round(1)]).map((one) => [one.number, one.state])).toEqual([
      [3, "completed"],
      [2, "completed"],
      [1, "completed"],
    ]);
  });
  it("names its rounds", () => {
    expect(roundName(round(6, { kind: "evaluate" }))).toBe("Evaluation after round 5");
    expect(roundName(round(1, { kind: "evaluate" }))).toBe("Evaluation of the base");
  });
  it("tells who is missing", () => {
    expect(outcomeOf(round(1, { counts }))).toBe("good");
    expect(outcomeOf(round(1, { counts: { ...counts, late: 1 } }))).toBe("partly");
  });
});

describe("the strip", () => {
  const slow = round(2, { closed_at: at(50), counts: { ...counts, failed: 1 } });
  it("has a bar for each round, oldest first, the longest at full height", () => {
    const all = bars([slow, round(1, { counts })], 1, NOW);
    expect(all.map((bar) => [bar.round.number, bar.outcome, bar.height])).toEqual([
      [1, "good", 0.5],
      [2, "partly", 1],
    ]);
    expect(all[1]?.missing).toBe(0.25);
    expect(barSays(all[1] ?? expect.fail("no bar"))).toBe("Round 2, completed without some, 40 s, 3 done, 1 failed");
  });
  it("shares bars where there are too many, and shows the worst", () => {
    const many = Array.from({ length: 10 }, (_, index) => round(10 - index));
    many[9] = round(1, { state: "failed" });
    const all = bars(many, roundsPerBar(many.length, 4), NOW);
    expect(all.map((bar) => [bar.first.number, bar.round.number, bar.outcome])).toEqual([
      [1, 3, "failed"],
      [4, 6, "good"],
      [7, 9, "good"],
      [10, 10, "good"],
    ]);
  });
});
