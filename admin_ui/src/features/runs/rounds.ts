/** What a run's rounds tell together: the whole list, how long they take, what became of them. Pure. */
import type { Round, Run } from "@/api/types";
import { isOpen } from "@/components/states";

const LATELY = 20; // rounds that an estimate rests on

/** Returns newer rounds and after them those that were known before, each once, newest first. */
export function joinRounds(newer: readonly Round[], known: readonly Round[]): Round[] {
  const seen = new Set(newer.map((round) => round.id));
  return [...newer, ...known.filter((round) => !seen.has(round.id))];
}

/** Returns how long a round took, or has taken by `now`, in seconds. */
export function roundSeconds(round: Pick<Round, "created_at" | "closed_at">, now: Date): number {
  const end = round.closed_at === null ? now : new Date(round.closed_at);
  return Math.max(0, (end.getTime() - new Date(round.created_at).getTime()) / 1000);
}

/** Returns the round that is open, if any. `rounds` are newest first. */
export function openRound(rounds: readonly Round[]): Round | undefined {
  return rounds.find((round) => isOpen(round.state));
}

/** Returns the seconds that the run's training rounds still take at the pace of the last ones; null if unknown. */
export function secondsLeft(run: Run, rounds: readonly Round[], now: Date): number | null {
  const took = rounds
    .filter((round) => round.state === "completed" && round.kind === "train")
    .slice(0, LATELY)
    .map((round) => roundSeconds(round, now))
    .sort((one, other) => one - other);
  const median = took[Math.floor(took.length / 2)];
  const left = run.plan.rounds - run.rounds_completed;
  if (median === undefined || left <= 0) return null;
  const open = openRound(rounds);
  const spent = open?.kind === "train" ? Math.min(median, roundSeconds(open, now)) : 0;
  return left * median - spent;
}

/** Returns how long the run has been at work in seconds, pauses left out. */
export function activeSeconds(run: Run, rounds: readonly Round[], now: Date): number {
  if (run.state !== "running" || run.started_at === null) return run.active_seconds;
  if (run.active_seconds === 0) return (now.getTime() - new Date(run.started_at).getTime()) / 1000;
  // It was paused before: what it did since is known by its rounds alone.
  const inRounds = rounds.reduce((sum, round) => sum + roundSeconds(round, now), 0);
  return Math.max(run.active_seconds, inRounds);
}

/** What became of a round, for its colour and its word. */
export type Outcome = "good" | "partly" | "failed" | "cancelled" | "open";

/** Returns what became of a round: "partly" made a checkpoint without some that were asked. */
export function outcomeOf(round: Round): Outcome {
  if (isOpen(round.state)) return "open";
  if (round.state === "failed") return "failed";
  if (round.state === "cancelled") return "cancelled";
  const counts = round.counts;
  return counts != null && counts.failed + counts.late > 0 ? "partly" : "good";
}

export const OUTCOMES: Record<Outcome, string> = {
  good: "completed by all",
  partly: "completed without some",
  failed: "failed",
  cancelled: "cancelled",
  open: "open",
};

/** Returns what a round is called: its number, or what it is for. */
export function roundName(round: Pick<Round, "number" | "kind">): string {
  if (round.kind === "train") return `Round ${round.number}`;
  return round.number <= 1 ? "Evaluation of the base" : `Evaluation after round ${round.number - 1}`;
}
