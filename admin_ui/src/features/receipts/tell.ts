/** A receipt as a sentence, and the parts of a round as rows. Pure. */
import type { ReceiptBody, RoundAccount } from "@/features/receipts/body";
import { usedUpdates } from "@/features/receipts/body";
import { plural } from "@/format/words";

/** Returns "Round 3", "Round 3, retry 1", "The run's end". */
export function titleOf({ round }: ReceiptBody): string {
  if (round === null) return "The run's end";
  return `Round ${round.round_number}${round.retry > 0 ? `, retry ${round.retry}` : ""}`;
}

/** Returns what happened, in a sentence or two. */
export function sentenceOf({ round, end }: ReceiptBody): string {
  if (round !== null) return roundSentence(round);
  if (end === null) return "";
  const because = end.reason ?? end.stop_reason;
  return `The run ${end.state === "completed" ? "was completed" : end.state === "failed" ? "failed" : "was cancelled"} after ${plural(end.rounds_completed, "round")}${because === null ? "" : `: ${because}`}.`;
}

function roundSentence(round: RoundAccount): string {
  const done = round.cohort.filter((entry) => entry.outcome === "done").length;
  const used = usedUpdates(round).length;
  const parts = [`${plural(round.cohort.length, "site")} asked, ${done} answered`];
  if (round.kind === "train") parts.push(`${plural(used, "update")} used`);
  if (round.excluded.length > 0) parts.push(`${round.excluded.length} not asked`);
  return `${round.kind === "train" ? "Training" : "Evaluation"} ${round.state}${round.reason === null ? "" : ` (${round.reason})`}: ${parts.join(", ")}.`;
}

export interface SitePart {
  key: string;
  site: string;
  fingerprint: string;
  outcome: RoundAccount["cohort"][number]["outcome"] | null; // null: an update of an earlier round's task
  isEvaluator: boolean;
  examples: number | null;
  weight: number | null;
  scale: number | null;
  staleness: number;
  digest: string | null; // of the update, or of the report that it signed
  size: number | null; // of the update, in bytes
  reason: string | null;
}

/** Returns every site's part of a round, those whose update was used first. */
export function partsOf(round: RoundAccount): SitePart[] {
  const updates = new Map(round.updates.map((update) => [update.task_id, update]));
  const asked = new Set(round.cohort.map((entry) => entry.task_id));
  const parts = round.cohort.map((entry): SitePart => {
    const update = updates.get(entry.task_id);
    return {
      key: entry.task_id,
      site: entry.site.name,
      fingerprint: entry.site.fingerprint,
      outcome: entry.outcome,
      isEvaluator: entry.evaluator,
      examples: update?.num_examples ?? null,
      weight: update?.weight ?? null,
      scale: update?.scale ?? null,
      staleness: update?.staleness ?? 0,
      digest: update?.digest ?? entry.report,
      size: update?.size ?? null,
      reason: update?.reason ?? entry.reason,
    };
  });
  for (const update of round.updates) {
    if (asked.has(update.task_id)) continue;
    parts.push({
      key: update.task_id,
      site: update.site.name,
      fingerprint: update.site.fingerprint,
      outcome: null,
      isEvaluator: false,
      examples: update.num_examples,
      weight: update.weight,
      scale: update.scale,
      staleness: update.staleness,
      digest: update.digest,
      size: update.size,
      reason: update.reason,
    });
  }
  return parts.sort((one, other) => Number(other.weight !== null) - Number(one.weight !== null) || one.site.localeCompare(other.site, undefined, { numeric: true }));
}

/** Returns the sites that were not asked, by the reason. */
export function excludedOf(round: RoundAccount): { reason: string; sites: string[] }[] {
  const groups = new Map<string, string[]>();
  for (const { site, reason } of round.excluded) groups.set(reason, [...(groups.get(reason) ?? []), site]);
  return [...groups].map(([reason, sites]) => ({ reason, sites }));
}
