/** Which of a run's metrics matters most, and which way is better. Pure. */
import { lastPoint } from "@/components/charts/curveData";
import type { RunPlan, Schema } from "@/api/types";

type MetricCurve = Schema<"MetricCurve">;

const LOWER_IS_BETTER = /loss|error|perplexity|mse|mae|nll|brier|\bece\b/i;
const SCORES = /accuracy|auc|f1|dice|iou|recall|precision|score|r2/i;

/** Returns the name of a curve in an address: "eval.accuracy". */
export function curveKey(curve: Pick<MetricCurve, "kind" | "name">): string {
  return `${curve.kind}.${curve.name}`;
}

/** Returns what a curve is called: "accuracy on held-out data", "loss in training". */
export function curveName(curve: Pick<MetricCurve, "kind" | "name">): string {
  return `${curve.name} ${curve.kind === "eval" ? "on held-out data" : "in training"}`;
}

/** Returns the curves, what tells most about the model first: scores and losses on held-out data, then training. */
export function ranked(
  curves: readonly MetricCurve[],
  stops?: RunPlan["early_stopping"],
): MetricCurve[] {
  const rank = (curve: MetricCurve) => {
    if (stops != null && curve.name === stops.metric && curve.kind === stops.source) return 0;
    const held = curve.kind === "eval" ? 1 : 4;
    if (SCORES.test(curve.name)) return held;
    return curve.name === "loss" ? held + 1 : held + 2;
  };
  return curves.toSorted((one, other) => rank(one) - rank(other) || one.name.localeCompare(other.name));
}

/** Returns whether less of a metric is better. */
export function lowerIsBetter(curve: Pick<MetricCurve, "kind" | "name">, stops?: RunPlan["early_stopping"]): boolean {
  if (stops != null && curve.name === stops.metric && curve.kind === stops.source) {
    return stops.mode === "min";
  }
  return LOWER_IS_BETTER.test(curve.name);
}

export interface Best {
  value: number;
  round: number;
}

/** Returns the best value of a curve with its round; null where it has no number. */
export function best(curve: MetricCurve, isLower: boolean): Best | null {
  let found: Best | null = null;
  curve.rounds.forEach((round, at) => {
    const value = curve.aggregated[at];
    if (value == null) return;
    if (found === null || (isLower ? value < found.value : value > found.value)) found = { value, round };
  });
  return found;
}

/** Returns the last value of a curve with its round; null where it has no number. */
export function latest(curve: MetricCurve): Best | null {
  return lastPoint({ rounds: curve.rounds, values: curve.aggregated });
}

/** Whether a curve has a site's own numbers. */
export function tells(curve: Pick<MetricCurve, "sites">, siteId: string): boolean {
  return curve.sites.some((site) => site.site_id === siteId);
}

/** Returns the curves with the sites of `more` beside their own, where both are of the same rounds. */
export function withSites(curves: readonly MetricCurve[], more: readonly MetricCurve[]): MetricCurve[] {
  return curves.map((curve) => {
    const same = more.find((one) => curveKey(one) === curveKey(curve));
    if (same === undefined || same.rounds.join() !== curve.rounds.join()) return curve;
    const added = same.sites.filter((site) => !tells(curve, site.site_id));
    return { ...curve, sites: [...curve.sites, ...added] };
  });
}
