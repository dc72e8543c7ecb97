/** The steps of a round of a secure run. Pure. */
import type { RoundDetail, Schema } from "@/api/types";
import { plural } from "@/format/words";

type RoundState = Schema<"RoundState">;
type SecureRound = Schema<"SecureRound">;

export interface SecureStep {
  state: RoundState;
  name: string;
  told: string; // what came of what is needed
  standing: "done" | "now" | "coming" | "broken";
}

const STEPS: readonly (readonly [RoundState, string])[] = [
  ["setup", "Keys"],
  ["collecting", "Masked updates"],
  ["signing", "Signatures"],
  ["opening", "Shares"],
  ["aggregating", "Sum"],
];

/** Returns the steps that a secure round takes, and how far it is. */
export function secureSteps(round: Pick<RoundDetail, "state" | "counts" | "checkpoint_id">, secure: SecureRound): SecureStep[] {
  const told: Partial<Record<RoundState, string>> = {
    setup: secure.roster === null ? "no roster yet" : `roster of ${secure.members}`,
    collecting: `${round.counts?.done ?? 0} of ${secure.participants}`,
    signing: `${secure.signatures} of ${secure.quorum}`,
    opening: `${secure.openings} of ${secure.threshold}`,
    aggregating: secure.survivors === null ? "over survivors" : `over ${plural(secure.survivors, "survivor")}`,
  };
  const at = reached(round.state, secure);
  const isOver = round.state === "failed" || round.state === "cancelled";
  return STEPS.map(([state, name], step) => ({
    state,
    name,
    told: told[state] ?? "",
    standing: step < at ? "done" : step > at ? "coming" : isOver ? "broken" : "now",
  }));
}

/** Returns the place of the step in hand; one beyond the last when all are done. */
function reached(state: RoundState, secure: SecureRound): number {
  const at = STEPS.findIndex(([step]) => step === state);
  if (at >= 0) return at;
  if (state === "completed") return STEPS.length;
  // It ended early: in the step whose result is missing.
  if (secure.roster === null) return 0;
  if (secure.survivors === null) return 1;
  if (secure.signatures < secure.quorum) return 2;
  return secure.openings < secure.threshold ? 3 : 4;
}
