/** A plan as TOML, as people keep it beside their code. It is only written here, never read. */
import type { Json, JsonObject } from "@/features/plans/json";
import { isObject } from "@/features/plans/json";

/**
 * Returns `document` as TOML: its own values first, then a table for each section.
 *
 * @throws Error: a null, for which TOML has no word.
 */
export function writeToml(document: JsonObject): string {
  return `${table(document, []).join("\n").trim()}\n`;
}

function table(values: JsonObject, path: readonly string[]): string[] {
  const entries = Object.entries(values);
  const plain = entries.filter(([, value]) => !isTable(value) && !isTables(value));
  const lines = plain.map(([name, value]) => `${key(name)} = ${inline(value)}`);
  const isHeadless = path.length === 0 || (lines.length === 0 && entries.length > 0);
  const all = isHeadless ? lines : ["", `[${path.map(key).join(".")}]`, ...lines];
  for (const [name, value] of entries) {
    const inner = [...path, name];
    if (isTables(value)) {
      for (const row of value) all.push("", `[[${inner.map(key).join(".")}]]`, ...table(row, inner).filter(isNoHead(inner)));
    } else if (isTable(value)) {
      all.push(...table(value, inner));
    }
  }
  return all;
}

/** The head of a row of tables stands already: leaves out the one that the row itself writes. */
function isNoHead(path: readonly string[]): (line: string) => boolean {
  const head = `[${path.map(key).join(".")}]`;
  return (line) => line !== head && line !== "";
}

function isTable(value: Json): value is JsonObject {
  return isObject(value);
}

function isTables(value: Json): value is JsonObject[] {
  return Array.isArray(value) && value.length > 0 && value.every(isObject);
}

/** Returns a value in one line of TOML. */
export function inline(value: Json): string {
  if (value === null) throw new Error("TOML has no word for null");
  if (typeof value === "string") return JSON.stringify(value);
  if (Array.isArray(value)) return `[${value.map(inline).join(", ")}]`;
  if (isObject(value)) return `{ ${Object.entries(value).map(([name, it]) => `${key(name)} = ${inline(it)}`).join(", ")} }`;
  return String(value);
}

function key(name: string): string {
  return /^[A-Za-z0-9_-]+$/.test(name) ? name : JSON.stringify(name);
}
