/** Labels as people write them: "region=nordics". */
import type { Labels } from "@/features/sites/sites";

const MOST = 32;
const KEY = 64; // characters
const VALUE = 256;

export interface ReadLabels {
  labels: Labels;
  wrong: string | null; // what the first wrong one lacks
}

/** Reads labels as they were written; a key that comes twice is wrong. */
export function readLabels(written: readonly string[]): ReadLabels {
  const labels: Labels = {};
  let wrong: string | null = written.length > MOST ? `There are ${written.length} labels, at most ${MOST} fit.` : null;
  for (const text of written) {
    const at = text.indexOf("=");
    const key = (at < 0 ? text : text.slice(0, at)).trim();
    const value = at < 0 ? "" : text.slice(at + 1).trim();
    if (at < 0 || key === "") wrong ??= `“${text}” is no label: write key=value.`;
    else if (key.length > KEY || value.length > VALUE) {
      wrong ??= `“${key}” is too long: a key has at most ${KEY} characters, a value ${VALUE}.`;
    } else if (Object.hasOwn(labels, key)) wrong ??= `“${key}” is there twice.`;
    else labels[key] = value;
  }
  return { labels, wrong };
}

/** Returns labels as they are written, by key. */
export function writtenLabels(labels: Labels): string[] {
  return Object.entries(labels)
    .map(([key, value]) => `${key}=${value}`)
    .toSorted();
}
