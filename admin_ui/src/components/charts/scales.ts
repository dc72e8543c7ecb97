/** Scales of charts: ticks at round numbers. Pure. */

const STEPS = [1, 2, 2.5, 5, 10] as const;

/** Returns the least and the greatest of the values; 0 and 1 where there are none. */
export function extremes(values: readonly number[]): readonly [least: number, most: number] {
  let least = Infinity;
  let most = -Infinity;
  for (const value of values) {
    least = Math.min(least, value);
    most = Math.max(most, value);
  }
  return values.length === 0 ? [0, 1] : [least, most];
}

/**
 * Returns ticks at multiples of 1, 2, 2.5 or 5 times a power of ten, the first at or below `least` and the last
 * at or above `most`, with about `count` steps between them.
 */
export function ticksOf(least: number, most: number, count = 4): number[] {
  const span = most - least || Math.abs(most) || 1;
  const rough = span / count;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * (STEPS.find((one) => one * power >= rough * 0.999) ?? 10);
  const from = Math.floor(least / step + 1e-9);
  const to = Math.max(Math.ceil(most / step - 1e-9), from + 1);
  // Multiplied, not added up: 0.1 ten times is not 1.
  return Array.from({ length: to - from + 1 }, (_, at) => Number(((from + at) * step).toPrecision(12)));
}
