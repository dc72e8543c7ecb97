/** JSON values and what is done with them: nothing here knows of plans. */

export type Json = null | boolean | number | string | Json[] | JsonObject;
export interface JsonObject {
  [key: string]: Json;
}

export function isObject(value: unknown): value is JsonObject {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

/** Whether two values are the same; the order of an object's keys does not matter. */
export function same(one: Json | undefined, other: Json | undefined): boolean {
  if (one === other) return true;
  if (Array.isArray(one) && Array.isArray(other)) {
    return one.length === other.length && one.every((item, index) => same(item, other[index]));
  }
  if (!isObject(one) || !isObject(other)) return false;
  const keys = Object.keys(one);
  return keys.length === Object.keys(other).length && keys.every((key) => key in other && same(one[key], other[key]));
}

/** Returns the value at a path, undefined where there is none. */
export function valueAt(document: Json | undefined, path: readonly string[]): Json | undefined {
  let value: Json | undefined = document;
  for (const key of path) {
    if (!isObject(value) || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}

/** Returns `document` with another value at a path; undefined takes it away. */
export function withValue(document: JsonObject, path: readonly string[], value: Json | undefined): JsonObject {
  const [key, ...rest] = path;
  if (key === undefined) return document;
  if (rest.length > 0) {
    const inner = document[key];
    return { ...document, [key]: withValue(isObject(inner) ? inner : {}, rest, value) };
  }
  if (value !== undefined) return { ...document, [key]: value };
  return Object.fromEntries(Object.entries(document).filter(([name]) => name !== key));
}

/** Returns every leaf by its dotted path; lists and empty objects are leaves. */
export function flatten(document: JsonObject, above = ""): Map<string, Json> {
  const leaves = new Map<string, Json>();
  for (const [key, value] of Object.entries(document)) {
    const path = above === "" ? key : `${above}.${key}`;
    if (isObject(value) && Object.keys(value).length > 0) {
      for (const [inner, leaf] of flatten(value, path)) leaves.set(inner, leaf);
    } else {
      leaves.set(path, value);
    }
  }
  return leaves;
}

/** Returns a value in a few words, for a summary or a table. */
export function say(value: Json | undefined): string {
  if (value === undefined || value === null || value === "") return "none";
  if (typeof value === "boolean") return value ? "yes" : "no";
  if (Array.isArray(value)) return value.length === 0 ? "none" : value.map((item) => (isObject(item) ? JSON.stringify(item) : say(item))).join(", ");
  if (isObject(value)) return Object.keys(value).length === 0 ? "as by default" : JSON.stringify(value);
  return String(value);
}
