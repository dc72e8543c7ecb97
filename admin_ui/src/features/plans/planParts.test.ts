import { describe, expect, it } from "vitest";

import { forkCommand } from "@/features/plans/forkCommand";
import { flatten, same, say, valueAt, withValue } from "@/features/plans/json";
import { isShown, sectionOf, sectionsOf } from "@/features/plans/layout";
import { makeOnceKeys } from "@/features/plans/onceKeys";
import { errorsAt, errorsByPath, errorsWithin } from "@/features/plans/planErrors";
import { readSchema } from "@/features/plans/planSchema";
import { SCHEMA } from "@/features/plans/planSchema.fixture";
import { writeToml } from "@/features/plans/toml";
import { mapOf, parseNumber, parseTyped, rowsOf, typedText } from "@/features/plans/trainingValues";

const sections = sectionsOf(readSchema(SCHEMA));
const paths = sections.flatMap((section) => [...section.main, ...section.more]).map((unit) => unit.path);

describe("sectionsOf", () => {
  it("places every field once, and what it does not know at the end", () => {
    expect(paths.toSorted()).toEqual([
      "cohort.choose", "cohort.hardware", "cohort.labels", "cohort.min_sites", "cohort.over_select", "cohort.pinned",
      "cohort.size", "model", "name", "novelty", "rounds", "secure", "seed", "strategy", "tensors.groups", "training",
    ]);
    expect(paths.at(-1)).toBe("novelty");
  });

  it("puts what is rarely wanted behind a button", () => {
    const cohort = sections.find((section) => section.id === "cohort");
    expect(cohort?.more.map((unit) => unit.path)).toEqual(["cohort.pinned", "cohort.labels", "cohort.hardware"]);
  });

  it("leaves out what is not to be changed", () => {
    const left = sectionsOf(readSchema(SCHEMA), new Set(["model"]));
    expect(left[0]?.main.map((unit) => unit.path)).toEqual(["name", "rounds", "seed"]);
  });

  it("finds the section of a field, of what is below it and of what is above it", () => {
    expect(sectionOf("training.lr", sections)?.id).toBe("training");
    expect(sectionOf("cohort", sections)?.id).toBe("cohort");
    expect(sectionOf("", sections)).toBeUndefined();
  });

  it("hides what means nothing yet, but never what is set", () => {
    expect(isShown("cohort.size", {})).toBe(false);
    expect(isShown("cohort.size", { cohort: { choose: "random" } })).toBe(true);
    expect(isShown("cohort.size", { cohort: { size: 3 } })).toBe(true);
  });
});

describe("errorsByPath", () => {
  it("takes away where the plan was in the request", () => {
    const errors = errorsByPath(
      [
        { path: "plan.rounds", message: "Field required" },
        { path: "changes.strategy.mu", message: "Field required" },
      ],
      paths,
    );
    expect(errorsAt(errors, "rounds")).toEqual(["Field required"]);
    expect(errorsWithin(errors, "strategy")).toEqual(["mu: Field required"]);
  });

  it("puts an error about a section at the field that it names first", () => {
    const errors = errorsByPath(
      [
        { path: "plan.cohort", message: "Value error, size 2 is below min_sites 3" },
        { path: "plan", message: "Value error, secure aggregation wants cohort.min_sites of 3 or more" },
        { path: "plan", message: "Value error, a run of 0 steps" },
      ],
      paths,
    );
    expect(errorsAt(errors, "cohort.size")).toEqual(["Size 2 is below min_sites 3"]);
    expect(errorsAt(errors, "")).toEqual(["A run of 0 steps"]);
    expect([...errors.values()].flat()).toHaveLength(3);
  });
});

describe("parseTyped", () => {
  it("knows numbers, truth, nothing, JSON and text", () => {
    expect(parseTyped("0.01")).toEqual({ value: 0.01, as: "number" });
    expect(parseTyped(" 1e-4 ")).toEqual({ value: 1e-4, as: "number" });
    expect(parseTyped("true")).toEqual({ value: true, as: "true or false" });
    expect(parseTyped("null")).toEqual({ value: null, as: "nothing" });
    expect(parseTyped("[1, 2]")).toEqual({ value: [1, 2], as: "JSON" });
    expect(parseTyped("[1, 2")).toEqual({ value: "[1, 2", as: "broken JSON" });
    expect(parseTyped('"12"')).toEqual({ value: "12", as: "text" });
    expect(parseTyped("adam")).toEqual({ value: "adam", as: "text" });
  });

  it("keeps an integer that a double cannot hold as text", () => {
    expect(parseTyped("12345678901234567890").value).toBe("12345678901234567890");
  });

  it("reads back what it writes", () => {
    for (const value of ["12", "adam", "true", "[x", '"', " a ", 0.5, false, null, { a: [1] }]) {
      expect(parseTyped(typedText(value)).value).toEqual(value);
    }
  });

  it("makes rows of a map and a map of rows", () => {
    const map = { lr: 0.1, name: "adam" };
    const rows = rowsOf(map, typedText);
    expect(mapOf([...rows, { key: " ", text: "1" }], (text) => parseTyped(text).value)).toEqual(map);
  });
});

describe("parseNumber", () => {
  it("takes exponents and decimal commas, and leaves the rest to the hub", () => {
    expect(parseNumber("1e-3")).toBe(0.001);
    expect(parseNumber("0,5")).toBe(0.5);
    expect(parseNumber("")).toBeUndefined();
    expect(parseNumber("fast")).toBe("fast");
  });
});

describe("writeToml", () => {
  it("writes own values first, then sections and rows of sections", () => {
    const plan = {
      cohort: { min_sites: 3, labels: { region: "north", "a b": "c" } },
      name: "a",
      rounds: 2,
      secure: {},
      tensors: { groups: [{ name: "head", tensors: ["h.*"] }] },
      training: { lr: 0.1, layers: [1, 2] },
    };
    expect(writeToml(plan)).toBe(`name = "a"
rounds = 2

[cohort]
min_sites = 3

[cohort.labels]
region = "north"
"a b" = "c"

[secure]

[[tensors.groups]]
name = "head"
tensors = ["h.*"]

[training]
lr = 0.1
layers = [1, 2]
`);
  });

  it("has no word for null", () => {
    expect(() => writeToml({ training: { a: null } })).toThrow("null");
  });
});

describe("forkCommand", () => {
  it("names what is changed as the command reads it", () => {
    const changes = { training: { lr: 0.01, kind: "adam", code: "007" }, secure: {}, cohort: { size: null } };
    expect(forkCommand("r1", "b", 7, changes)).toBe(
      [
        "hansa run fork r1 \\",
        "  --name b \\",
        "  --round 7 \\",
        "  --set training.lr=0.01 \\",
        "  --set training.kind=adam \\",
        `  --set 'training.code="007"' \\`,
        "  --set 'secure={  }' \\",
        "  --set cohort.size=null",
      ].join("\n"),
    );
  });
});

describe("makeOnceKeys", () => {
  it("gives a request one key, and another request another", () => {
    const keyOf = makeOnceKeys();
    const first = keyOf({ a: 1 });
    expect(keyOf({ a: 1 })).toBe(first);
    expect(keyOf({ a: 2 })).not.toBe(first);
    expect(first).toMatch(/^[\x21-\x7e]{1,200}$/);
  });
});

describe("json", () => {
  it("reads, sets and takes away values", () => {
    const document = { a: { b: 1 } };
    expect(valueAt(document, ["a", "b"])).toBe(1);
    expect(withValue(document, ["a", "c"], 2)).toEqual({ a: { b: 1, c: 2 } });
    expect(withValue(document, ["a", "b"], undefined)).toEqual({ a: {} });
    expect(document).toEqual({ a: { b: 1 } });
  });

  it("compares whatever the order, and flattens to leaves", () => {
    expect(same({ a: 1, b: [1, { c: 2 }] }, { b: [1, { c: 2 }], a: 1 })).toBe(true);
    expect(same({ a: 1 }, { a: 1, b: 2 })).toBe(false);
    expect([...flatten({ a: { b: [1], c: {} }, d: null })]).toEqual([["a.b", [1]], ["a.c", {}], ["d", null]]);
  });

  it("says values in words", () => {
    expect([null, [], true, ["a", 2], {}, 0.5].map(say)).toEqual(["none", "none", "yes", "a, 2", "as by default", "0.5"]);
  });
});
