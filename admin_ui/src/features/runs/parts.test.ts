import { describe, expect, it } from "vitest";

import type { TaskView } from "@/api/types";
import { excludedByReason, failuresOf, fractionOf, ordered, partLook, someNames, tally } from "@/features/runs/parts";
import { secureSteps } from "@/features/runs/secure";

function task(site: string, state: TaskView["state"], changes: Partial<TaskView> = {}): TaskView {
  return { id: site, site_id: site, site_name: site, state, state_reason: null, traceback: null, progress: null, repeat: 1, ...changes } as TaskView;
}

const training = task("bern", "claimed", { progress: { phase: "training", fraction: 0.4, metrics: {} } });
const tasks = [task("oslo", "done"), task("site-10", "open"), task("site-9", "open"), training, task("rome", "failed")];

describe("a round's parts", () => {
  it("begin with what went wrong", () =>
    expect(ordered(tasks).map((one) => one.site_name)).toEqual(["rome", "bern", "site-9", "site-10", "oslo"]));
  it("say how far they are", () => {
    expect(partLook(training).label).toBe("training");
    expect(fractionOf(training)).toBe(0.4);
    expect(partLook(task("a", "claimed")).label).toBe("has begun");
    expect(fractionOf(task("a", "open"))).toBeNull();
    expect(fractionOf(task("a", "done"))).toBe(1);
  });
  it("are counted by state", () =>
    expect(tally(tasks)).toEqual([
      { state: "done", count: 1 },
      { state: "claimed", count: 1 },
      { state: "open", count: 2 },
      { state: "failed", count: 1 },
    ]));
});

describe("sites that were not asked", () => {
  it("come together by reason, the most frequent first", () =>
    expect(
      excludedByReason([
        { site: "a", reason: "suspended" },
        { site: "b", reason: "not seen for 5 min" },
        { site: "c", reason: "not seen for 5 min" },
      ]),
    ).toEqual([
      { reason: "not seen for 5 min", sites: ["b", "c"] },
      { reason: "suspended", sites: ["a"] },
    ]));
});

describe("failures", () => {
  it("come together by reason, with a traceback of one that has it", () => {
    const round = {
      tasks: [
        task("a", "failed", { state_reason: "no GPU" }),
        task("b", "failed", { state_reason: "loss is NaN" }),
        task("c", "failed", { state_reason: "loss is NaN", traceback: "Traceback", log: "step 3" }),
        task("d", "done"),
      ],
    };
    expect(failuresOf(round)).toEqual([
      { reason: "loss is NaN", sites: ["b", "c"], traceback: "Traceback", log: "step 3", example: "c" },
      { reason: "no GPU", sites: ["a"], traceback: null, log: null, example: "a" },
    ]);
  });
  it("name a few sites", () => {
    expect(someNames(["a", "b"])).toBe("a, b");
    expect(someNames(["a", "b", "c", "d", "e", "f"], 3)).toBe("a, b, c and 3 more");
  });
});

describe("the steps of a secure round", () => {
  const secure = {
    roster: "digest",
    roster_version: 1,
    members: 5,
    participants: 5,
    survivors: 4,
    signatures: 1,
    quorum: 4,
    openings: 0,
    threshold: 3,
    waiting_for: [],
    refusals: {},
    transcript: null,
    expires_at: null,
  };
  const round = { counts: null, checkpoint_id: null };

  it("are done up to the one in hand", () => {
    const steps = secureSteps({ ...round, state: "signing" }, secure);
    expect(steps.map((step) => step.standing)).toEqual(["done", "done", "now", "coming", "coming"]);
    expect(steps[2]?.told).toBe("1 of 4");
    expect(steps[4]?.told).toBe("over 4 survivors");
  });
  it("break where the result is missing", () => {
    const steps = secureSteps({ ...round, state: "failed" }, secure);
    expect(steps.map((step) => step.standing)).toEqual(["done", "done", "broken", "coming", "coming"]);
  });
  it("are all done in the end", () => {
    const steps = secureSteps({ ...round, state: "completed" }, secure);
    expect(steps.every((step) => step.standing === "done")).toBe(true);
  });
});
