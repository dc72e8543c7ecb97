/** What each state means to a person: a word, a colour and whether something is going on. */
import type { Schema } from "@/api/types";

export interface StateLook {
  label: string;
  colour: string;
  isBusy?: boolean; // something is going on right now
}

type SiteState = Schema<"SiteState">;
type RunState = Schema<"RunState">;
type RoundState = Schema<"RoundState">;
type TaskState = Schema<"TaskState">;

/* Green is good and done, the brand's own colour is at work, yellow waits for somebody, orange is
   late or left out, red failed, gray is over or not begun. */
export const SITE_STATES: Record<SiteState, StateLook> = {
  pending: { label: "awaits approval", colour: "yellow" },
  active: { label: "active", colour: "green" },
  suspended: { label: "suspended", colour: "orange" },
  revoked: { label: "revoked", colour: "gray" },
};

export const RUN_STATES: Record<RunState, StateLook> = {
  draft: { label: "draft", colour: "gray" },
  queued: { label: "queued", colour: "yellow" },
  running: { label: "running", colour: "hansa", isBusy: true },
  paused: { label: "paused", colour: "yellow" },
  completed: { label: "completed", colour: "green" },
  failed: { label: "failed", colour: "red" },
  cancelled: { label: "cancelled", colour: "gray" },
};

export const ROUND_STATES: Record<RoundState, StateLook> = {
  setup: { label: "agreeing on keys", colour: "hansa", isBusy: true },
  collecting: { label: "collecting", colour: "hansa", isBusy: true },
  signing: { label: "signing", colour: "hansa", isBusy: true },
  opening: { label: "opening the sum", colour: "hansa", isBusy: true },
  aggregating: { label: "aggregating", colour: "violet", isBusy: true },
  completed: { label: "completed", colour: "green" },
  failed: { label: "failed", colour: "red" },
  cancelled: { label: "cancelled", colour: "gray" },
};

export const TASK_STATES: Record<TaskState, StateLook> = {
  open: { label: "asked", colour: "gray" },
  claimed: { label: "at work", colour: "hansa", isBusy: true },
  done: { label: "done", colour: "green" },
  failed: { label: "failed", colour: "red" },
  late: { label: "late", colour: "orange" },
  cancelled: { label: "cancelled", colour: "gray" },
};

/** Whether a run can still change. */
export function isLive(state: RunState): boolean {
  return state === "queued" || state === "running" || state === "paused" || state === "draft";
}

/** Whether a round still waits for something. */
export function isOpen(state: RoundState): boolean {
  return state !== "completed" && state !== "failed" && state !== "cancelled";
}
