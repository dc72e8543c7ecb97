/**
 * What a verification found: counts of what holds, and each thing that does not, or is not known.
 * Nothing is silently left out: what a check could not look at is a finding too, with the reason.
 */

/** What can be checked, in the order in which it is shown, and when each holds. */
export const CHECKS = {
  chain: "Numbers count from 1 without gaps, each receipt names the one before, and all are of one run and plan.",
  "receipt digest": "The signed text has the SHA-256 that it is stored under.",
  "receipt signature": "The Ed25519 signature of the text is by the hub's key that the text names.",
  "hub key": "The key that signed is one that you know by another way than from the hub.",
  plan: "The plan in the first receipt has the digest that all of them name.",
  lineage: "Each round began from the checkpoint that the last completed one made.",
  quorum: "A completed round has as many answers as it needs, and no task counted twice.",
  "update signature": "The site signed what the receipt says of its update: task, run, round, base, digest, size, examples.",
  weight: "An update counted for the examples that its site signed, scaled by what the plan says of its age.",
  "site key": "The key that signed is one that the site's operator told you.",
  "stored file": "The SHA-256 of the bytes is their name: updates, base checkpoints, results.",
  "secure sum": "A secure round was opened as its sites agreed, and adds up.",
  aggregate: "The stored updates, with the receipt's weights, give the receipt's checkpoint, byte for byte.",
  "run's end": "Its state, its count of rounds and its model are those of the rounds.",
} as const;

export type Check = keyof typeof CHECKS;
export const CHECK_NAMES = Object.keys(CHECKS) as Check[];

export interface Finding {
  check: Check;
  subject: string; // "receipt 3 (round 2), site oslo"
  message: string;
}

export class Ledger {
  readonly holds = new Map<Check, number>();
  readonly wrong: Finding[] = [];
  readonly unchecked: Finding[] = [];

  hold(check: Check): void {
    this.holds.set(check, (this.holds.get(check) ?? 0) + 1);
  }

  fail(check: Check, subject: string, message: string): void {
    this.wrong.push({ check, subject, message });
  }

  skip(check: Check, subject: string, message: string): void {
    this.unchecked.push({ check, subject, message });
  }

  /** Notes all that is wrong with one thing, or that it holds. */
  settle(check: Check, subject: string, wrong: readonly string[]): boolean {
    for (const message of wrong) this.fail(check, subject, message);
    if (wrong.length === 0) this.hold(check);
    return wrong.length === 0;
  }
}

/** What a pass found, as it is shown. */
export interface Found {
  holds: ReadonlyMap<Check, number>;
  wrong: readonly Finding[];
  unchecked: readonly Finding[];
}

export interface CheckRow {
  check: Check;
  holds: number;
  wrong: number;
  unchecked: number;
}

/** Returns the checks that found anything, with their counts. */
export function rowsOf(ledger: Found): CheckRow[] {
  const count = (findings: readonly Finding[], check: Check) => findings.filter((one) => one.check === check).length;
  return CHECK_NAMES.map((check) => ({
    check,
    holds: ledger.holds.get(check) ?? 0,
    wrong: count(ledger.wrong, check),
    unchecked: count(ledger.unchecked, check),
  })).filter((row) => row.holds + row.wrong + row.unchecked > 0);
}

export interface FindingGroup {
  check: Check;
  message: string;
  subjects: string[];
}

/** Returns findings that say the same once, with all that they are about. */
export function grouped(findings: readonly Finding[]): FindingGroup[] {
  const groups = new Map<string, FindingGroup>();
  for (const { check, subject, message } of findings) {
    const key = `${check}\n${message}`;
    const group = groups.get(key) ?? { check, message, subjects: [] };
    group.subjects.push(subject);
    groups.set(key, group);
  }
  return [...groups.values()];
}
