import { describe, expect, it } from "vitest";

import { defaultAt, differences, holdsNull, mergePatch, nextName, prune } from "@/features/plans/drafts";
import { readSchema } from "@/features/plans/planSchema";
import { SCHEMA } from "@/features/plans/planSchema.fixture";

const fields = readSchema(SCHEMA);
const base = { name: "a", model: "heart", rounds: 3 };

describe("prune", () => {
  it("leaves out what is as by default, all the way down", () => {
    const draft = {
      ...base,
      seed: 0,
      cohort: { min_sites: 2, choose: "random", size: null, pinned: [], labels: {}, hardware: { cpus: 0, gpus: 1 } },
      strategy: { name: "fedavg" },
      secure: null,
      training: {},
    };
    expect(prune(fields, draft)).toEqual({ ...base, cohort: { choose: "random", hardware: { gpus: 1 } } });
  });

  it("keeps the heading of a section that is wanted with its defaults", () => {
    expect(prune(fields, { ...base, secure: {} })).toEqual({ ...base, secure: {} });
    expect(prune(fields, { ...base, secure: { lanes: 3 } })).toEqual({ ...base, secure: {} });
  });

  it("keeps a variant's name with what differs from its own defaults", () => {
    expect(prune(fields, { ...base, strategy: { name: "fedadam", lr: 0.01 } })).toEqual({
      ...base,
      strategy: { name: "fedadam" },
    });
  });

  it("drops fields that were cleared and keeps those that nobody knows", () => {
    expect(prune(fields, { ...base, rounds: "", cohort: { min_sites: "" }, other: 1 })).toEqual({
      name: "a",
      model: "heart",
      other: 1,
    });
  });

  it("keeps null within training", () => {
    expect(prune(fields, { ...base, training: { clip: null } })).toEqual({ ...base, training: { clip: null } });
  });
});

describe("differences", () => {
  it("names fields by their path, with the default where nothing was set", () => {
    const after = { ...base, cohort: { min_sites: 3 }, strategy: { name: "fedprox", mu: 0.1 } };
    expect(differences(fields, base, after)).toEqual([
      { path: "cohort.min_sites", before: 2, after: 3 },
      { path: "strategy.name", before: "fedavg", after: "fedprox" },
      { path: "strategy.mu", before: undefined, after: 0.1 },
    ]);
  });

  it("says the default of the variant that is chosen", () => {
    expect(defaultAt(fields, { strategy: { name: "fedadam" } }, "strategy.lr")).toBe(0.01);
  });
});

describe("mergePatch", () => {
  it("is empty for the same plan", () => {
    expect(mergePatch(fields, base, { ...base, seed: 0 })).toEqual({});
  });

  it("names what changed alone, and takes away by null what is as by default again", () => {
    const before = { ...base, cohort: { min_sites: 3, labels: { region: "north", kind: "a" } }, training: { lr: 0.1, epochs: 2 } };
    const after = { ...base, cohort: { min_sites: 2, labels: { region: "south" } }, training: { lr: 0.1, epochs: 1 } };
    expect(mergePatch(fields, before, after)).toEqual({
      cohort: { min_sites: null, labels: { region: "south", kind: null } },
      training: { epochs: 1 },
    });
  });

  it("gives a section of another name whole, and of the same name by its changes", () => {
    const before = { ...base, strategy: { name: "fedprox", mu: 0.1 } };
    expect(mergePatch(fields, before, { ...base, strategy: { name: "fedadam", lr: 0.1 } })).toEqual({
      strategy: { name: "fedadam", lr: 0.1 },
    });
    expect(mergePatch(fields, before, { ...base, strategy: { name: "fedprox", mu: 0.2 } })).toEqual({ strategy: { mu: 0.2 } });
    expect(mergePatch(fields, before, base)).toEqual({ strategy: null });
  });

  it("switches sections on and off", () => {
    expect(mergePatch(fields, base, { ...base, secure: {} })).toEqual({ secure: {} });
    expect(mergePatch(fields, { ...base, secure: { lanes: 2 } }, base)).toEqual({ secure: null });
  });
});

describe("holdsNull", () => {
  it("finds null at any depth of an object", () => {
    expect(holdsNull({ a: { b: null } })).toBe(true);
    expect(holdsNull({ a: { b: 0 } })).toBe(false);
    expect(holdsNull(undefined)).toBe(false);
  });
});

describe("nextName", () => {
  it("takes the first free number, and counts on from a name that has one", () => {
    expect(nextName("heart", new Set())).toBe("heart-1");
    expect(nextName("heart-1", new Set(["heart-1", "heart-2"]))).toBe("heart-3");
  });

  it("stays within the 64 characters of a name", () => {
    expect(nextName("x".repeat(64), new Set()).length).toBeLessThanOrEqual(64);
  });
});
