/** Free values as a person types them: 0.01 is a number, true is true, the rest is text or JSON. */
import type { Json, JsonObject } from "@/features/plans/json";
import { isObject } from "@/features/plans/json";

export interface KeyedText {
  key: string;
  text: string;
}

export type TypedAs = "number" | "true or false" | "nothing" | "text" | "JSON" | "broken JSON";

const NUMBER = /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i;

/** Returns what a text means. A text in double quotes is text, whatever is in it. */
export function parseTyped(typed: string): { value: Json; as: TypedAs } {
  const text = typed.trim();
  if (NUMBER.test(text)) {
    const value = Number(text);
    // An integer that a double cannot hold would change silently.
    if (Number.isFinite(value) && (!/^[+-]?\d+$/.test(text) || Number.isSafeInteger(value))) return { value, as: "number" };
  }
  if (text === "true" || text === "false") return { value: text === "true", as: "true or false" };
  if (text === "null") return { value: null, as: "nothing" };
  if (/^["[{]/.test(text)) {
    try {
      const value = JSON.parse(text) as Json;
      return { value, as: typeof value === "string" ? "text" : "JSON" };
    } catch {
      return { value: typed, as: "broken JSON" };
    }
  }
  return { value: typed, as: "text" };
}

/** Returns the text that means `value`. */
export function typedText(value: Json): string {
  if (typeof value !== "string") return JSON.stringify(value);
  return parseTyped(value).value === value && parseTyped(value).as === "text" ? value : JSON.stringify(value);
}

/** Returns the rows of a map. */
export function rowsOf(value: Json | undefined, textOf: (value: Json) => string): KeyedText[] {
  if (!isObject(value)) return [];
  return Object.entries(value).map(([key, inner]) => ({ key, text: textOf(inner) }));
}

/** Returns the map of rows; those without a key are not in it, of equal keys the last counts. */
export function mapOf(rows: readonly KeyedText[], valueOf: (text: string) => Json): JsonObject {
  const entries = rows.filter((row) => row.key.trim() !== "");
  return Object.fromEntries(entries.map((row) => [row.key.trim(), valueOf(row.text)]));
}

/** Returns the number that is typed, the text itself where it is none, undefined for nothing. */
export function parseNumber(typed: string): number | string | undefined {
  const text = typed.trim().replace(",", ".");
  if (text === "") return undefined;
  return NUMBER.test(text) ? Number(text) : typed;
}
