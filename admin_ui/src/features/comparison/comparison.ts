/** Runs side by side: where their plans differ, how their metrics compare, what they used. Pure. */
import type { Round, Run } from "@/api/types";
import type { CurveSeries } from "@/components/charts/curveData";
import type { Json, JsonObject } from "@/features/plans/json";
import { flatten, isObject, same } from "@/features/plans/json";
import type { Best } from "@/features/runs/metrics";
import { best, curveKey, latest, lowerIsBetter, ranked } from "@/features/runs/metrics";
import type { MetricCurve, RunCurves } from "@/features/runs/runs";
import { shortId } from "@/format/words";

export const MOST_RUNS = 8; // side by side

/** A field of plans with its value in each run; undefined where the plan has no such field. */
export interface PlanRow {
  path: string; // dotted
  values: (Json | undefined)[]; // aligned with the runs
  isSame: boolean;
}

/** Returns all fields of the runs' plans but their names, in the order of the plans. */
export function planRows(plans: readonly JsonObject[]): PlanRow[] {
  const leaves = plans.map((plan) => flatten(plan));
  const paths = new Set(leaves.flatMap((leaf) => [...leaf.keys()]));
  paths.delete("name");
  const order = [...new Set(plans.flatMap((plan) => Object.keys(plan)))];
  const place = (path: string) => order.indexOf(path.split(".")[0] ?? "");
  return [...paths]
    .map((path) => {
      const values = leaves.map((leaf) => leaf.get(path));
      return { path, values, isSame: values.every((value) => same(value, values[0])) };
    })
    .filter((row, _, rows) => !isHollow(row, rows))
    .sort((one, other) => place(one.path) - place(other.path));
}

/** A section that one plan leaves out is told by the fields of those that have it. */
function isHollow(row: PlanRow, rows: readonly PlanRow[]): boolean {
  const isEmpty = (value: Json | undefined) => value == null || (isObject(value) && Object.keys(value).length === 0);
  return row.values.every(isEmpty) && rows.some((other) => other.path.startsWith(`${row.path}.`));
}

/** One metric in each run. */
export interface MetricRow {
  key: string; // "eval.accuracy"
  curve: Pick<MetricCurve, "kind" | "name">;
  isLower: boolean; // whether less is better
  last: (Best | null)[]; // aligned with the runs
  best: (Best | null)[];
  bestOf: ReadonlySet<number>; // places of the best runs by their best value; empty if only one has numbers
}

/** Returns the metrics that any run has, what tells most first. `all` is aligned with the runs. */
export function metricRows(all: readonly (RunCurves | undefined)[], runs: readonly Run[]): MetricRow[] {
  const stops = runs.find((run) => run.plan.early_stopping != null)?.plan.early_stopping;
  const known = new Map<string, MetricCurve>();
  for (const curves of all) {
    for (const curve of curves?.curves ?? []) if (!known.has(curveKey(curve))) known.set(curveKey(curve), curve);
  }
  return ranked([...known.values()], stops).map((curve) => {
    const key = curveKey(curve);
    const isLower = lowerIsBetter(curve, stops);
    const own = all.map((curves) => curves?.curves.find((one) => curveKey(one) === key));
    const peaks = own.map((one) => (one === undefined ? null : best(one, isLower)));
    return {
      key,
      curve: { kind: curve.kind, name: curve.name },
      isLower,
      last: own.map((one) => (one === undefined ? null : latest(one))),
      best: peaks,
      bestOf: winners(peaks, isLower),
    };
  });
}

function winners(peaks: readonly (Best | null)[], isLower: boolean): ReadonlySet<number> {
  const values = peaks.flatMap((peak) => (peak === null ? [] : [peak.value]));
  if (values.length < 2) return new Set();
  const top = isLower ? Math.min(...values) : Math.max(...values);
  return new Set(peaks.flatMap((peak, at) => (peak?.value === top ? [at] : [])));
}

export type Axis = "round" | "bytes" | "time";

/** Where a run was after each of its rounds: bytes that its sites had sent, seconds since its start. */
export interface Course {
  bytes: ReadonlyMap<number, number>;
  seconds: ReadonlyMap<number, number>;
}

/** Returns the course of a run; `rounds` in any order, with their counts. */
export function courseOf(run: Pick<Run, "started_at">, rounds: readonly Round[]): Course {
  const bytes = new Map<number, number>([[0, 0]]);
  const seconds = new Map<number, number>([[0, 0]]);
  const start = run.started_at === null ? null : new Date(run.started_at).getTime();
  const closed = rounds.filter((round) => round.closed_at !== null);
  closed.sort((one, other) => String(one.closed_at).localeCompare(String(other.closed_at)));
  let sent = 0;
  for (const round of closed) {
    sent += round.counts?.bytes_up ?? 0; // of tries that failed too: they were sent
    if (round.kind !== "train" || round.state !== "completed") continue;
    bytes.set(round.number, sent);
    if (start !== null) seconds.set(round.number, (new Date(String(round.closed_at)).getTime() - start) / 1000);
  }
  return { bytes, seconds };
}

export interface Unit {
  label: string;
  size: number; // of one, in bytes or seconds
}

/** Returns the unit in which the greatest value is a number of two digits or more. */
export function unitFor(axis: Axis, greatest: number): Unit {
  const units: Unit[] =
    axis === "bytes"
      ? [{ label: "GB", size: 1e9 }, { label: "MB", size: 1e6 }, { label: "kB", size: 1e3 }]
      : [{ label: "hours", size: 3600 }, { label: "minutes", size: 60 }];
  const small: Unit = axis === "bytes" ? { label: "bytes", size: 1 } : { label: "seconds", size: 1 };
  return units.find((unit) => greatest >= 10 * unit.size) ?? small;
}

/** Returns a curve along an axis; points whose place is not known are left out. */
export function along(series: CurveSeries, course: Course | undefined, axis: Axis, unit: Unit): CurveSeries {
  if (axis === "round") return series;
  const places = axis === "bytes" ? course?.bytes : course?.seconds;
  const points = series.rounds.flatMap((round, at) => {
    const place = places?.get(round);
    return place === undefined ? [] : [{ place: place / unit.size, value: series.values[at] ?? null }];
  });
  return { ...series, rounds: points.map((point) => point.place), values: points.map((point) => point.value) };
}

/** Returns a name for each run that no other of them has. */
export function tellApart(runs: readonly Pick<Run, "id" | "name">[]): string[] {
  return runs.map((run) => {
    const isAlone = runs.filter((other) => other.name === run.name).length === 1;
    return isAlone ? run.name : `${run.name} (${shortId(run.id.replaceAll("-", "").slice(-6), 6)})`;
  });
}
