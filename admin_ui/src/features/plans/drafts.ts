/**
 * A plan while it is written: what its author set, without what is as by default.
 *
 * A field that is cleared is not set. `prune` gives the document that is sent and shown.
 */
import type { Json, JsonObject } from "@/features/plans/json";
import { flatten, isObject, same } from "@/features/plans/json";
import type { Field, VariantsField } from "@/features/plans/planSchema";

export interface Difference {
  path: string; // dotted
  before: Json | undefined; // the default where nothing is set; undefined: there is none
  after: Json | undefined;
}

/** Returns `draft` without what is as by default; fields that are unknown stay. */
export function prune(fields: readonly Field[], draft: JsonObject): JsonObject {
  const known = new Map(fields.map((field) => [field.key, field]));
  const kept: JsonObject = {};
  for (const [key, value] of Object.entries(draft)) {
    const field = known.get(key);
    const rest = field === undefined ? value : pruned(field, value);
    if (rest !== undefined) kept[key] = rest;
  }
  return kept;
}

function pruned(field: Field, value: Json): Json | undefined {
  if (value === "" || (value === null && (field.fallback ?? null) === null)) return undefined;
  switch (field.kind) {
    case "group": {
      if (!isObject(value)) return value;
      const rest = prune(field.fields, value);
      // The heading of a section that may be left out says that it is wanted.
      return Object.keys(rest).length === 0 && !field.isNullable ? undefined : rest;
    }
    case "variants": {
      if (!isObject(value)) return value;
      const rest = prunedVariant(field, value);
      const usual = isObject(field.fallback) ? prunedVariant(field, field.fallback) : undefined;
      return same(rest, usual) ? undefined : rest;
    }
    case "rows": {
      if (!Array.isArray(value)) return value;
      const rows = value.map((row) => (isObject(row) ? prune(field.row.fields, row) : row));
      return same(rows, field.fallback) ? undefined : rows;
    }
    default:
      return !field.isRequired && same(value, field.fallback) ? undefined : value;
  }
}

function prunedVariant(field: VariantsField, value: JsonObject): JsonObject {
  const variant = field.variants.find((candidate) => candidate.name === value[field.tag]);
  return variant === undefined ? value : prune(variant.fields, value);
}

/** Returns the default at a dotted path; a variant's where the draft has that variant. */
export function defaultAt(fields: readonly Field[], draft: JsonObject, path: string): Json | undefined {
  const [key, ...rest] = path.split(".");
  const field = fields.find((candidate) => candidate.key === key);
  if (field === undefined) return undefined;
  const value = draft[field.key];
  const inner = isObject(value) ? value : {};
  if (rest.length === 0) return field.fallback;
  if (field.kind === "group") return defaultAt(field.fields, inner, rest.join("."));
  if (field.kind !== "variants") return undefined;
  if (rest.length === 1 && rest[0] === field.tag) {
    return isObject(field.fallback) ? field.fallback[field.tag] : undefined;
  }
  const variant = field.variants.find((candidate) => candidate.name === inner[field.tag]);
  return variant === undefined ? undefined : defaultAt(variant.fields, inner, rest.join("."));
}

/** Returns where two plans differ, by dotted path, in the order of the plan. */
export function differences(fields: readonly Field[], before: JsonObject, after: JsonObject): Difference[] {
  const old = flatten(prune(fields, before));
  const now = flatten(prune(fields, after));
  const order = fields.map((field) => field.key);
  return [...new Set([...old.keys(), ...now.keys()])]
    .filter((path) => !same(old.get(path), now.get(path)))
    .map((path) => ({
      path,
      before: old.get(path) ?? defaultAt(fields, before, path),
      after: now.get(path) ?? defaultAt(fields, after, path),
    }))
    .sort((one, other) => place(order, one.path) - place(order, other.path));
}

function place(order: readonly string[], path: string): number {
  return order.indexOf(path.split(".")[0] ?? "");
}

/**
 * Returns the JSON merge patch (RFC 7396) that makes `after` of `before`.
 *
 * What is only in `before` is taken away by null, so the hub's default holds there. A section that
 * is told by another name (`strategy`, `codec`) is given whole: the hub replaces it whole.
 */
export function mergePatch(fields: readonly Field[], before: JsonObject, after: JsonObject): JsonObject {
  const told = new Map(fields.filter((field) => field.kind === "variants").map((field) => [field.key, field.tag]));
  return patchOf(prune(fields, before), prune(fields, after), told);
}

function patchOf(before: JsonObject, after: JsonObject, told: ReadonlyMap<string, string>): JsonObject {
  const patch: JsonObject = {};
  for (const key of Object.keys(before)) if (!(key in after)) patch[key] = null;
  for (const [key, value] of Object.entries(after)) {
    const old = before[key];
    if (same(old, value)) continue;
    const tag = told.get(key);
    const isOther = tag !== undefined && isObject(old) && isObject(value) && old[tag] !== value[tag];
    patch[key] = isObject(old) && isObject(value) && !isOther ? patchOf(old, value, new Map()) : value;
  }
  return patch;
}

/** Whether a patch would take away what is to be set to null: only `training` can hold one. */
export function holdsNull(value: Json | undefined): boolean {
  if (value === null) return true;
  return isObject(value) && Object.values(value).some(holdsNull);
}

/** Returns a name that no run has: the same with the next free number at its end. */
export function nextName(wanted: string, taken: ReadonlySet<string>): string {
  const stem = wanted.replace(/-\d+$/, "").slice(0, LONGEST_STEM);
  for (let number = 1; ; number += 1) {
    const name = `${stem}-${number}`;
    if (!taken.has(name)) return name;
  }
}

const LONGEST_STEM = 58; // of the 64 characters of a name
