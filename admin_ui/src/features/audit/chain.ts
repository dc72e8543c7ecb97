/**
 * The check of an audit log, entry by entry, as hansa_core.audit defines it. Pure.
 *
 * An exported line is {"body": canonical JSON as text, "digest": its SHA-256}. Numbers count from 1
 * without gaps, and each entry names the digest of the one before. One entry is in memory.
 */
import { canonicalProblem } from "@/integrity/canonical";
import { sha256Hex } from "@/integrity/digests";

/** One entry's place and digest; it stands for the chain up to there. */
export interface Head {
  number: number;
  digest: string;
}

/** A chain that holds together. */
export interface Chain {
  owner: string | null; // the federation's id; null: the hub
  head: Head;
  since: string;
  until: string;
}

/** What is wrong, and with which entry first. */
export class BrokenChainError extends Error {
  constructor(
    readonly number: number,
    what: string,
  ) {
    super(`entry ${number} ${what}`);
    this.name = "BrokenChainError";
  }
}

/** Returns the heads in a text, one a line as NUMBER:DIGEST, and the lines that are none. */
export function readHeads(text: string): { heads: Head[]; strange: string[] } {
  const heads: Head[] = [];
  const strange: string[] = [];
  for (const line of text.split("\n")) {
    const found = /^(?:head\s+)?([1-9][0-9]{0,14}):([0-9a-f]{64})$/.exec(line.trim());
    if (found?.[1] !== undefined && found[2] !== undefined) heads.push({ number: Number(found[1]), digest: found[2] });
    else if (line.trim() !== "") strange.push(line.trim());
  }
  return { heads, strange };
}

interface Entry {
  federation_id: string | null;
  number: number;
  at: string;
  previous: string | null;
}

/** Takes a whole log, line by line; `kept` are heads that somebody noted before and trusts. */
export class ChainCheck {
  private readonly known = new Map<number, string>();
  private first: Entry | null = null;
  private last: Entry | null = null;
  private digest: string | null = null;

  /** @throws BrokenChainError: two kept heads of one number differ. */
  constructor(kept: readonly Head[] = []) {
    for (const { number, digest } of kept) {
      const other = this.known.get(number) ?? digest;
      if (other !== digest) throw new BrokenChainError(number, `was kept with two digests, ${other} and ${digest}`);
      this.known.set(number, digest);
    }
  }

  /** How many entries were taken. */
  get count(): number {
    return this.last?.number ?? 0;
  }

  /** Checks the next line. @throws BrokenChainError */
  take(line: string): void {
    const number = this.count + 1;
    const { body, digest } = readLine(line, number);
    const found = sha256Hex(body);
    if (found !== digest) throw new BrokenChainError(number, `was changed: its SHA-256 is ${found}, noted is ${digest}`);
    const entry = readEntry(body, number);
    if (entry.number > number) throw new BrokenChainError(number, `is missing: the next one there is ${entry.number}`);
    if (entry.number < number) throw new BrokenChainError(number, `is missing: entry ${entry.number} stands in its place`);
    if (this.last !== null && entry.federation_id !== this.last.federation_id) {
      throw new BrokenChainError(number, `belongs to ${owner(entry)}, the entries before to ${owner(this.last)}`);
    }
    if (entry.previous !== this.digest) {
      const said = entry.previous ?? "none";
      throw new BrokenChainError(number, `follows an entry with the digest ${said}, the one before it has ${this.digest ?? "none"}`);
    }
    const kept = this.known.get(number);
    if (kept !== undefined && kept !== digest) {
      throw new BrokenChainError(number, `has the digest ${digest}, kept was ${kept}: history was rewritten`);
    }
    this.first ??= entry;
    this.last = entry;
    this.digest = digest;
  }

  /** Returns what was found when the last line was taken; null without entries. @throws BrokenChainError */
  finish(): Chain | null {
    const most = Math.max(0, ...this.known.keys());
    if (most > this.count) {
      throw new BrokenChainError(this.count + 1, `is missing: the entries end at ${this.count}, there once were ${most}`);
    }
    if (this.first === null || this.last === null || this.digest === null) return null;
    const { federation_id, at } = this.first;
    return { owner: federation_id, head: { number: this.last.number, digest: this.digest }, since: at, until: this.last.at };
  }
}

function readLine(line: string, number: number): { body: string; digest: string } {
  try {
    const { body, digest } = JSON.parse(line) as { body?: unknown; digest?: unknown };
    if (typeof body === "string" && typeof digest === "string") return { body, digest };
  } catch {
    // told below
  }
  throw new BrokenChainError(number, `is no exported entry: ${line.slice(0, 80)}`);
}

const FIELDS = ["action", "actor", "at", "data", "federation_id", "number", "previous", "version"];
const ACTOR = ["address", "id", "kind", "name", "token_id"];
const KINDS = new Set(["person", "site", "hub"]);
const MOMENT = /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}\+00:00$/;

function readEntry(body: string, number: number): Entry {
  const wrong = canonicalProblem(body);
  if (wrong !== null) throw new BrokenChainError(number, `is ${wrong}`);
  const value: unknown = JSON.parse(body);
  if (!isEntry(value)) throw new BrokenChainError(number, "is no audit entry of version 1");
  return value;
}

function isEntry(value: unknown): value is Entry {
  if (!isRecord(value, FIELDS)) return false;
  const { actor, at, data } = value;
  return (
    value["version"] === 1 &&
    Number.isSafeInteger(value["number"]) &&
    typeof value["action"] === "string" &&
    typeof at === "string" &&
    MOMENT.test(at) &&
    isTextOrNull(value["previous"]) &&
    isTextOrNull(value["federation_id"]) &&
    isRecord(actor, ACTOR) &&
    typeof actor["name"] === "string" &&
    typeof actor["kind"] === "string" &&
    KINDS.has(actor["kind"]) &&
    isRecord(data)
  );
}

/** Whether a value is an object, with exactly these fields if they are named. */
function isRecord(value: unknown, fields?: readonly string[]): value is Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return false;
  return fields === undefined || (Object.keys(value).length === fields.length && fields.every((name) => name in value));
}

function isTextOrNull(value: unknown): boolean {
  return value === null || typeof value === "string";
}

function owner(entry: Entry): string {
  return entry.federation_id === null ? "the hub" : `federation ${entry.federation_id}`;
}
