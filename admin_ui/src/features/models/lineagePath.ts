/** A checkpoint's ancestors as stretches of runs. Pure. */
import type { Schema } from "@/api/types";

type Step = Schema<"CardStep">;

export interface Stretch {
  newest: Step;
  oldest: Step;
  title: string;
}

/** Joins ancestors, nearest first, that one run made one after the other. */
export function stretches(lineage: readonly Step[]): Stretch[] {
  const found: Stretch[] = [];
  for (const step of lineage) {
    const last = found.at(-1);
    if (last !== undefined && step.run_id !== null && last.newest.run_id === step.run_id) last.oldest = step;
    else found.push({ newest: step, oldest: step, title: "" });
  }
  return found.map((one) => ({ ...one, title: titleOf(one) }));
}

function titleOf({ newest, oldest }: Stretch): string {
  if (newest.run_id === null) return "Uploaded base";
  const run = newest.run_name ?? "a run";
  const [first, last] = [oldest.round_number ?? 0, newest.round_number ?? 0];
  return first === last ? `${run}, round ${last}` : `${run}, rounds ${first} to ${last}`;
}
