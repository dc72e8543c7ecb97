/** The strip of a run's rounds: one bar each, or for several where there are more than fit. Pure. */
import type { Round } from "@/api/types";
import type { Outcome } from "@/features/runs/rounds";
import { OUTCOMES, outcomeOf, roundName, roundSeconds } from "@/features/runs/rounds";
import { formatSeconds } from "@/format/times";
import { plural } from "@/format/words";

export interface Bar {
  round: Round; // the newest of them, which a click opens
  first: Round; // the oldest
  count: number;
  outcome: Outcome; // the worst
  missing: number; // share of the asked sites that failed or were late, 0 to 1
  seconds: number; // the longest
  height: number; // 0 to 1
  isEvaluation: boolean; // and nothing else
}

const BADNESS: Record<Outcome, number> = { good: 0, cancelled: 1, partly: 2, open: 3, failed: 4 };
const LEAST_HEIGHT = 0.14;

/** Returns how many rounds share a bar, so that `count` of them need at most `most` bars. */
export function roundsPerBar(count: number, most: number): number {
  return Math.max(1, Math.ceil(count / Math.max(1, most)));
}

/** Returns the bars of `each` rounds, oldest first. `rounds` are newest first. */
export function bars(rounds: readonly Round[], each: number, now: Date): Bar[] {
  const all: Bar[] = [];
  for (let end = rounds.length; end > 0; end -= each) {
    const some = rounds.slice(Math.max(0, end - each), end);
    const round = some[0];
    const first = some.at(-1);
    if (round === undefined || first === undefined) continue;
    const outcomes = some.map(outcomeOf).sort((one, other) => BADNESS[other] - BADNESS[one]);
    all.push({
      round,
      first,
      count: some.length,
      outcome: outcomes[0] ?? "good",
      missing: Math.max(...some.map(missingShare)),
      seconds: Math.max(...some.map((one) => roundSeconds(one, now))),
      height: 0,
      isEvaluation: some.every((one) => one.kind === "evaluate"),
    });
  }
  const longest = Math.max(...all.map((bar) => bar.seconds), 0);
  // Roots: one slow round does not flatten all others.
  for (const bar of all) {
    bar.height = longest === 0 ? LEAST_HEIGHT : Math.max(LEAST_HEIGHT, Math.sqrt(bar.seconds / longest));
  }
  return all;
}

function missingShare(round: Round): number {
  const counts = round.counts;
  if (counts == null) return 0;
  const missing = counts.failed + counts.late;
  const asked = missing + counts.done + counts.claimed + counts.open;
  return asked === 0 ? 0 : missing / asked;
}

/** Returns what a bar says: "Round 7, completed without some, 12 s, 3 failed". */
export function barSays(bar: Bar): string {
  const { round, first, count } = bar;
  const name = count === 1 ? roundName(round) : `Rounds ${first.number} to ${round.number}`;
  const told = [name, OUTCOMES[bar.outcome], formatSeconds(bar.seconds)];
  if (count === 1) {
    const { done = 0, failed = 0, late = 0 } = round.counts ?? {};
    if (done > 0) told.push(`${done} done`);
    if (failed > 0) told.push(`${failed} failed`);
    if (late > 0) told.push(`${late} late`);
    if (round.retry > 0) told.push(`${plural(round.retry, "try", "tries")} before`);
  }
  return told.join(", ");
}
