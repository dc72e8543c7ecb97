/** Times and durations as people read them: local, short, and whole where somebody looks closer. */

const SECOND = 1;
const MINUTE = 60 * SECOND;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;

/** Returns e.g. "450 ms", "8.2 s", "3 min 20 s", "2 h 5 min", "4 d 3 h". */
export function formatSeconds(seconds: number): string {
  if (seconds < 0) return "0 s";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  if (seconds < 9.95) return `${Number(seconds.toFixed(1))} s`;
  const all = Math.round(seconds);
  if (all < MINUTE) return `${all} s`;
  if (all < HOUR) return pair(all, MINUTE, "min", SECOND, "s");
  if (all < DAY) return pair(all, HOUR, "h", MINUTE, "min");
  return pair(all, DAY, "d", HOUR, "h");
}

function pair(all: number, large: number, largeName: string, small: number, smallName: string): string {
  const rest = Math.floor((all % large) / small);
  const first = `${Math.floor(all / large)} ${largeName}`;
  return rest === 0 ? first : `${first} ${rest} ${smallName}`;
}

/** What is so little ahead is now: clocks differ, and what is shown is not drawn anew each second. */
const AHEAD_SECONDS = 15;

/** Returns e.g. "just now", "3 min ago", "in 2 h", and the date where it is longer than a week. */
export function formatRelative(at: Date, now: Date): string {
  const seconds = (now.getTime() - at.getTime()) / 1000;
  const size = Math.abs(seconds);
  if (seconds < 5 && seconds > -AHEAD_SECONDS) return "just now";
  if (size >= 7 * DAY) return formatDay(at);
  return seconds > 0 ? `${largest(size, Math.floor)} ago` : `in ${largest(size, Math.round)}`;
}

function largest(seconds: number, whole: (value: number) => number): string {
  if (seconds < MINUTE) return `${whole(seconds)} s`;
  if (seconds < HOUR) return `${whole(seconds / MINUTE)} min`;
  if (seconds < DAY) return `${whole(seconds / HOUR)} h`;
  return `${whole(seconds / DAY)} d`;
}

const day = new Intl.DateTimeFormat(undefined, { dateStyle: "medium" });
const clock = new Intl.DateTimeFormat(undefined, { timeStyle: "medium" });
const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });
const moment = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "medium" });

/** Returns the local date. */
export function formatDay(at: Date): string {
  return day.format(at);
}

/** Returns the local time of day. */
export function formatClock(at: Date): string {
  return clock.format(at);
}

/** Returns the local date and time, short. */
export function formatMoment(at: Date): string {
  return moment.format(at);
}

/** Returns the local date and time with its zone, for a tooltip. */
export function formatFully(at: Date): string {
  return full.format(at);
}
