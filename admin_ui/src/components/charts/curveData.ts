/** What a chart of curves is made of: rows for drawing, what lies near the pointer, a scale. Pure. */

export interface CurveSeries {
  name: string;
  rounds: readonly number[]; // ascending
  values: readonly (number | null)[]; // aligned with `rounds`
  colour?: string; // a theme colour; by its place among the series unless given
  faint?: boolean; // in the background: one site among many
  dashed?: boolean;
}

/** One round and what every series has there: the key of series n is `keyOf(n)`. */
export type CurveRow = { round: number } & Record<string, number | null>;

export interface NearEntry {
  index: number; // of the series
  value: number;
}

/** Names may hold dots, which a chart takes for a path, so series go by their place. */
export function keyOf(index: number): string {
  return `s${index}`;
}

/** Returns one row for every round that any series has, ascending. */
export function curveRows(series: readonly CurveSeries[]): CurveRow[] {
  const rows = new Map<number, CurveRow>();
  series.forEach(({ rounds, values }, index) => {
    rounds.forEach((round, at) => {
      const value = values[at];
      if (value == null || !Number.isFinite(value)) return;
      let row = rows.get(round);
      if (row === undefined) {
        row = { round };
        rows.set(round, row);
      }
      row[keyOf(index)] = value;
    });
  });
  return [...rows.values()].sort((one, other) => one.round - other.round);
}

/**
 * Returns at most `most` entries of a row: all series in the foreground first, then of those in
 * the background what lies nearest to `value` (the pointer); each part from high to low.
 */
export function nearest(
  row: CurveRow,
  series: readonly CurveSeries[],
  value: number | undefined,
  most: number,
): { entries: NearEntry[]; left: number } {
  const all: NearEntry[] = [];
  series.forEach((_, index) => {
    const at = row[keyOf(index)];
    if (at != null) all.push({ index, value: at });
  });
  const distance = (entry: NearEntry) => (value === undefined ? entry.index : Math.abs(entry.value - value));
  const near = (entries: NearEntry[], count: number) =>
    entries
      .toSorted((one, other) => distance(one) - distance(other))
      .slice(0, Math.max(0, count))
      .sort((one, other) => other.value - one.value);
  const front = near(
    all.filter(({ index }) => !series[index]?.faint),
    most,
  );
  const back = near(
    all.filter(({ index }) => series[index]?.faint),
    most - front.length,
  );
  return { entries: [...front, ...back], left: all.length - front.length - back.length };
}

/** Returns the last value of a series with its round; null where it has none. */
export function lastPoint(
  series: Pick<CurveSeries, "rounds" | "values">,
): { round: number; value: number } | null {
  for (let at = series.rounds.length - 1; at >= 0; at -= 1) {
    const round = series.rounds[at];
    const value = series.values[at];
    if (round !== undefined && value != null) return { round, value };
  }
  return null;
}

/** Returns the points of a polyline in a box, y upwards; nothing for fewer than one value. */
export function sparkPoints(
  values: readonly (number | null)[],
  width: number,
  height: number,
  padding = 2,
): { x: number; y: number }[] {
  const known = values.filter((value): value is number => value != null && Number.isFinite(value));
  if (known.length === 0) return [];
  const low = Math.min(...known);
  const high = Math.max(...known);
  const stepX = values.length > 1 ? (width - 2 * padding) / (values.length - 1) : 0;
  const points: { x: number; y: number }[] = [];
  values.forEach((value, at) => {
    if (value == null || !Number.isFinite(value)) return;
    const share = high === low ? 0.5 : (value - low) / (high - low);
    points.push({
      x: values.length > 1 ? padding + at * stepX : width / 2,
      y: height - padding - share * (height - 2 * padding),
    });
  });
  return points;
}
