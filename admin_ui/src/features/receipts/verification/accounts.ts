/** What a receipt says, against itself and the plan. */
import type { RunPlan } from "@/api/types";
import type { RoundAccount, RunEnd } from "@/features/receipts/body";
import { usedUpdates } from "@/features/receipts/body";

/** The plan in a receipt: what was written, without the defaults that were left out. */
export type GivenPlan = { [Name in keyof RunPlan]?: Partial<RunPlan[Name]> | RunPlan[Name] };

const MIN_SITES = 2; // where the plan says nothing
const STATES: Record<RunEnd["cause"], RunEnd["state"]> = {
  finished: "completed",
  cancelled: "cancelled",
  quorum: "failed",
  aggregation: "failed",
};

/** Returns why a completed round had too few answers, or nothing. */
export function quorumProblems(account: RoundAccount, plan: GivenPlan | null): string[] {
  const done = new Set(
    account.cohort
      .filter((entry) => entry.outcome === "done" && !(entry.evaluator && account.updates.length > 0))
      .map((entry) => entry.task_id),
  );
  let answers = done.size;
  if (account.aggregate !== null) {
    const used = usedUpdates(account).map((update) => update.task_id);
    answers = new Set(used).size;
    if (answers !== used.length) return ["a task's update was used more than once"];
    if (plan !== null && plan.buffer == null && used.some((task) => !done.has(task))) {
      return ["it used an update of a task that its cohort does not count as done"];
    }
    const least = plan?.cohort?.min_sites ?? MIN_SITES;
    if (plan !== null && account.threshold < least) return [`its threshold is ${account.threshold}, the plan's min_sites ${least}`];
  }
  return answers < account.threshold ? [`it is completed with ${answers} answers, wanted ${account.threshold}`] : [];
}

/** Returns what in the receipt of a run's end is not what its rounds say. */
export function endProblems(
  end: RunEnd,
  rounds: { roundsCompleted: number; head: string | null },
  plan: GivenPlan | null,
): string[] {
  const wrong: string[] = [];
  const planned = typeof plan?.rounds === "number" ? plan.rounds : null;
  if (STATES[end.cause] !== end.state) wrong.push(`it is ${end.state} because it was ${end.cause}`);
  if (end.rounds_completed !== rounds.roundsCompleted) {
    wrong.push(`it counts ${end.rounds_completed} completed rounds, the receipts ${rounds.roundsCompleted}`);
  }
  if (rounds.head !== null && end.checkpoint.digest !== rounds.head) {
    wrong.push(`it leaves checkpoint ${end.checkpoint.digest}, the newest is ${rounds.head}`);
  }
  if (end.state !== "completed" && !end.reason) wrong.push(`it is ${end.state} without a reason`);
  if (end.state === "completed" && planned !== null && end.rounds_completed < planned && end.stop_reason === null) {
    wrong.push(`it is completed after ${end.rounds_completed} of ${planned} rounds without a reason`);
  }
  return wrong;
}
