/** The sites' parts in a round: in which order, in which words, and what failed alike. Pure. */
import type { RoundDetail, TaskView } from "@/api/types";
import type { StateLook } from "@/components/states";
import { TASK_STATES } from "@/components/states";

type TaskState = TaskView["state"];

const ORDER: Record<TaskState, number> = { failed: 0, claimed: 1, open: 2, late: 3, done: 4, cancelled: 5 };

/** Returns a round's tasks: what went wrong first, then what is under way, then what is over. */
export function ordered(tasks: readonly TaskView[]): TaskView[] {
  return tasks.toSorted(
    (one, other) =>
      ORDER[one.state] - ORDER[other.state] ||
      one.site_name.localeCompare(other.site_name, undefined, { numeric: true }) ||
      one.repeat - other.repeat,
  );
}

/** Returns what a site does or did, in a word and a colour. */
export function partLook(task: Pick<TaskView, "state" | "progress">): StateLook {
  const look = TASK_STATES[task.state];
  if (task.state !== "claimed") return look;
  return { ...look, label: task.progress === null ? "has begun" : task.progress.phase };
}

/** Returns how far a site is in what it does now, 0 to 1; null where there is nothing to measure. */
export function fractionOf(task: Pick<TaskView, "state" | "progress">): number | null {
  if (task.state === "done") return 1;
  return task.state === "claimed" && task.progress !== null ? task.progress.fraction : null;
}

/** How many of a round's own sites (evaluators beside it left out) are in each state. */
export interface Tally {
  state: TaskState;
  count: number;
}

const TALLIED: readonly TaskState[] = ["done", "claimed", "open", "late", "failed", "cancelled"];

export function tally(tasks: readonly TaskView[]): Tally[] {
  return TALLIED.map((state) => ({ state, count: tasks.filter((task) => task.state === state).length })).filter(
    ({ count }) => count > 0,
  );
}

/** Sites that failed for the same reason. */
export interface FailureGroup {
  reason: string;
  sites: string[];
  traceback: string | null; // of one of them
  log: string | null;
  example: string; // whose traceback and log these are
}

/** Returns the failures of a round by their reason, the most frequent first. */
export function failuresOf(round: Pick<RoundDetail, "tasks">): FailureGroup[] {
  const groups = new Map<string, FailureGroup>();
  for (const task of round.tasks) {
    if (task.state !== "failed") continue;
    const reason = task.state_reason ?? "no reason was told";
    const group = groups.get(reason);
    if (group === undefined) {
      const { traceback, site_name: example } = task;
      groups.set(reason, { reason, sites: [example], traceback, log: task.log ?? null, example });
    } else {
      group.sites.push(task.site_name);
      if (group.traceback === null && task.traceback !== null) {
        Object.assign(group, { traceback: task.traceback, log: task.log ?? null, example: task.site_name });
      }
    }
  }
  return [...groups.values()].sort((one, other) => other.sites.length - one.sites.length);
}

/** Returns the sites that were not asked, by the reason, the most frequent first. */
export function excludedByReason(excluded: NonNullable<RoundDetail["excluded"]>): { reason: string; sites: string[] }[] {
  const groups = new Map<string, string[]>();
  for (const { reason, site } of excluded) {
    const sites = groups.get(reason);
    if (sites === undefined) groups.set(reason, [site]);
    else sites.push(site);
  }
  return [...groups]
    .map(([reason, sites]) => ({ reason, sites }))
    .sort((one, other) => other.sites.length - one.sites.length);
}

/** Returns "oslo, bern and 3 more". */
export function someNames(names: readonly string[], most = 4): string {
  if (names.length <= most) return names.join(", ");
  return `${names.slice(0, most).join(", ")} and ${names.length - most} more`;
}
