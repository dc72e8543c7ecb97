import { readFileSync } from "node:fs";

import { describe, expect, it } from "vitest";

import type { JsonObject } from "@/features/plans/json";
import { isObject } from "@/features/plans/json";
import type { Field } from "@/features/plans/planSchema";
import { readSchema } from "@/features/plans/planSchema";
import { SCHEMA } from "@/features/plans/planSchema.fixture";

const fields = readSchema(SCHEMA);

function find(path: string, among: readonly Field[] = fields): Field {
  const [key, ...rest] = path.split(".");
  const field = among.find((one) => one.key === key);
  if (field === undefined) throw new Error(`no field ${path}`);
  if (rest.length === 0) return field;
  if (field.kind !== "group") throw new Error(`${path}: ${field.kind}`);
  return find(rest.join("."), field.fields);
}

describe("readSchema", () => {
  it("keeps the order of the plan and knows what is required", () => {
    expect(fields.map((field) => field.key)).toEqual([
      "name", "model", "seed", "rounds", "cohort", "strategy", "tensors", "secure", "training", "novelty",
    ]);
    expect(fields.filter((field) => field.isRequired).map((field) => field.key)).toEqual(["name", "model", "rounds"]);
  });

  it("reads numbers with their bounds, an exclusive one of whole numbers as the next inside", () => {
    expect(find("rounds")).toMatchObject({ kind: "number", isWhole: true, least: 0, most: 100000 });
    expect(find("seed")).toMatchObject({ kind: "number", fallback: 0, most: 9223372036854775807 });
  });

  it("follows references and keeps what stands beside them", () => {
    expect(find("cohort.choose")).toMatchObject({
      kind: "choice",
      title: "Choose",
      help: "How sites are taken.",
      fallback: "all",
      options: ["all", "random", "weighted", "stratified"],
    });
  });

  it("takes null out of a choice and says empty for None", () => {
    expect(find("cohort.size")).toMatchObject({
      kind: "number",
      isNullable: true,
      fallback: null,
      least: 1,
      help: "Answers wanted; empty: everybody's.",
    });
    expect(find("secure")).toMatchObject({ kind: "group", isNullable: true });
    expect(find("secure.lanes")).toMatchObject({ kind: "choice", options: [2, 3, 4, 5] });
    expect(find("secure.site_metrics")).toMatchObject({ kind: "switch", fallback: false });
  });

  it("tells variants apart by their name, which is no field of theirs", () => {
    const strategy = find("strategy");
    if (strategy.kind !== "variants") throw new Error(strategy.kind);
    expect(strategy.tag).toBe("name");
    expect(strategy.variants.map((variant) => [variant.name, variant.fields.map((field) => field.key)])).toEqual([
      ["fedavg", []],
      ["fedadam", ["lr"]],
      ["fedprox", ["mu"]],
    ]);
    expect(strategy.variants[2]?.fields[0]).toMatchObject({ isRequired: true, fallback: undefined });
  });

  it("reads lists, maps and free values", () => {
    expect(find("cohort.pinned")).toMatchObject({ kind: "names", most: 1000 });
    expect(find("cohort.labels").kind).toBe("map");
    expect(find("training").kind).toBe("free");
    expect(find("tensors.groups")).toMatchObject({ kind: "rows", row: { kind: "group" } });
  });

  it("shows what it does not know as JSON", () => {
    expect(find("novelty")).toMatchObject({ kind: "other", help: "Of a later hub." });
  });

  it("knows every field of the plan in the API's own document", () => {
    const document = JSON.parse(readFileSync(new URL("../../../../openapi.json", import.meta.url), "utf8")) as JsonObject;
    const schemas = isObject(document["components"]) ? document["components"]["schemas"] : undefined;
    if (!isObject(schemas) || !isObject(schemas["RunPlan"])) throw new Error("no RunPlan in openapi.json");
    const real = readSchema({ ...schemas["RunPlan"], $defs: schemas });
    const unknown = real.flatMap((field) => others(field, field.key));
    expect(unknown).toEqual([]);
    expect(real.length).toBeGreaterThan(10);
  });
});

function others(field: Field, path: string): string[] {
  const below = (fields: readonly Field[]) => fields.flatMap((inner) => others(inner, `${path}.${inner.key}`));
  if (field.kind === "other") return [path];
  if (field.kind === "group") return below(field.fields);
  if (field.kind === "rows") return below(field.row.fields);
  return field.kind === "variants" ? field.variants.flatMap((variant) => below(variant.fields)) : [];
}
