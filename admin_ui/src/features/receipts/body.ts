/**
 * What a receipt's signed text says. Its form is hansa_core.receipts', formats 1 to 3: the text is
 * signed, so it is read here from its bytes and from nothing else that the hub says.
 */
import type { Schema } from "@/api/types";
import { ROUND_STATES, RUN_STATES, TASK_STATES } from "@/components/states";
import { digest, exactly, flag, list, nullable, number, oneOf, record, text, whole } from "@/features/receipts/shapes";
import { canonicalProblem } from "@/integrity/canonical";

const roundState = oneOf(...wordsOf<Schema<"RoundState">>(ROUND_STATES));
const runState = oneOf(...wordsOf<Schema<"RunState">>(RUN_STATES));
const taskState = oneOf(...wordsOf<Schema<"TaskState">>(TASK_STATES));
const roundKind = oneOf<Schema<"RoundKind">>("train", "evaluate");

const named = exactly({ id: text, name: text });
const site = exactly({ id: text, name: text, fingerprint: text });
const blob = exactly({ digest, size: whole() });
const slots = record(blob);

const update = exactly({
  task_id: text,
  site,
  digest,
  size: whole(),
  num_examples: whole(1),
  manifest: digest,
  staleness: whole(),
  weight: nullable(whole(1)),
  scale: nullable(number),
  reason: nullable(text),
});

const secure = exactly({
  roster: digest,
  roster_version: whole(1),
  round: digest,
  participants: list(whole()),
  survivors: list(whole()),
  transcript: nullable(blob),
  summed: nullable(blob),
  summed_parts: slots,
});

const round = exactly(
  {
    id: text,
    round_number: whole(1),
    retry: whole(),
    kind: roundKind,
    state: roundState,
    reason: nullable(text),
    opened_at: text,
    closed_at: text,
    threshold: whole(),
    target: nullable(whole()),
    base: blob,
    cohort: list(
      exactly({
        task_id: text,
        site,
        evaluator: flag,
        outcome: taskState,
        reason: nullable(text),
        report: nullable(digest),
      }),
    ),
    excluded: list(exactly({ site: text, reason: text })),
    updates: list(update),
    aggregate: nullable(exactly({ rule: text, checkpoint: blob }, { slots: [slots, {}] })),
  },
  { base_slots: [slots, {}], population: [nullable(whole()), null], secure: [nullable(secure), null] },
);

const end = exactly({
  cause: oneOf("finished", "cancelled", "quorum", "aggregation"),
  state: runState,
  reason: nullable(text),
  stop_reason: nullable(text),
  sites: list(exactly({ site: text, outcome: taskState, reason: nullable(text) })),
  rounds_completed: whole(),
  checkpoint: blob,
  bytes_moved: whole(),
  started_at: nullable(text),
  ended_at: text,
});

const origin = exactly({
  checkpoint: blob,
  parent_run: nullable(text),
  receipt: nullable(digest),
  plan: nullable(text),
  rounds_before: whole(),
});

const body = exactly({
  format: oneOf("hansa-receipt/1", "hansa-receipt/2", "hansa-receipt/3"),
  hub: text,
  federation: named,
  run: named,
  plan_digest: digest,
  number: whole(1),
  parent: nullable(digest),
  origin: nullable(origin),
  issued_at: text,
  software: record(text),
  round: nullable(round),
  end: nullable(end),
});

export type ReceiptBody = ReturnType<typeof body>;
export type RoundAccount = ReturnType<typeof round>;
export type ReceivedUpdate = ReturnType<typeof update>;
export type RunEnd = ReturnType<typeof end>;
export type Slots = ReturnType<typeof slots>;

/**
 * Returns what a receipt's text says.
 *
 * @throws Error: not canonical, or no receipt of a format that is known here.
 */
export function readBody(signed: string): ReceiptBody {
  const wrong = canonicalProblem(signed);
  if (wrong !== null) throw new Error(`the body is ${wrong}`);
  const said = body(JSON.parse(signed), "");
  if ((said.round === null) === (said.end === null)) throw new Error("a receipt is either of a round or of a run's end");
  const isFirst = said.number === 1;
  if ((said.parent === null) !== isFirst || (said.origin !== null) !== isFirst) {
    throw new Error("the first receipt has an origin, every other one a parent");
  }
  if (said.round !== null) checkRound(said.format, said.round);
  return said;
}

function checkRound(format: ReceiptBody["format"], account: RoundAccount): void {
  const countsSlots = isFull(account.base_slots) || isFull(account.aggregate?.slots ?? {}) || account.population !== null;
  if (format === "hansa-receipt/1" && countsSlots) throw new Error(`a receipt of format ${format} has no slots and no population`);
  if (format !== "hansa-receipt/3" && account.secure !== null) throw new Error(`a receipt of format ${format} has no secure sum`);
  for (const { weight, scale, reason } of account.updates) {
    const isUsed = weight !== null;
    if (isUsed !== (scale !== null) || isUsed === (reason !== null) || (scale !== null && !(scale > 0 && scale <= 1))) {
      throw new Error("an update has either a weight and a scale, or a reason why it was not used");
    }
  }
}

function isFull(named: Slots): boolean {
  return Object.keys(named).length > 0;
}

/** Returns what to call a receipt in a sentence. */
export function subjectOf({ number: at, round: account }: ReceiptBody): string {
  if (account === null) return `receipt ${at} (the run's end)`;
  return `receipt ${at} (round ${account.round_number}${account.retry > 0 ? `, retry ${account.retry}` : ""})`;
}

/** Returns the updates that a round's aggregate was made of. */
export function usedUpdates(account: RoundAccount): ReceivedUpdate[] {
  return account.updates.filter((one) => one.weight !== null);
}

function wordsOf<Word extends string>(states: Record<Word, unknown>): Word[] {
  return Object.keys(states) as Word[];
}

