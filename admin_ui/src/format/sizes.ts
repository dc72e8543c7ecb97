/** Bytes and counts as people read them. */

const UNITS = ["B", "kB", "MB", "GB", "TB", "PB"] as const;

/** Returns e.g. "1.4 MB": powers of 1000, three digits at most. */
export function formatBytes(bytes: number): string {
  let value = bytes;
  let unit = 0;
  while (value >= 999.5 && unit < UNITS.length - 1) {
    value /= 1000;
    unit += 1;
  }
  const digits = unit === 0 || value >= 99.95 ? 0 : value >= 9.995 ? 1 : 2;
  return `${trimmed(value, digits)} ${UNITS[unit] ?? "B"}`;
}

const whole = new Intl.NumberFormat("en-GB");
const short = new Intl.NumberFormat("en-GB", { notation: "compact", maximumSignificantDigits: 3 });

/** Returns e.g. "12,402". */
export function formatCount(count: number): string {
  return whole.format(count);
}

/** Returns e.g. "12.4K". */
export function formatShortCount(count: number): string {
  return short.format(count);
}

/** Returns e.g. "87 %"; never 100 % of what is not all. */
export function formatShare(part: number, all = 1): string {
  if (all === 0) return "–";
  const share = (100 * part) / all;
  const shown = part < all ? Math.min(99, Math.round(share)) : Math.round(share);
  return `${shown} %`;
}

/** Returns a metric's value in four significant digits: "0.8472", "1.203e-5". */
export function formatMetric(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e6)) return value.toExponential(3);
  return String(Number(value.toPrecision(4)));
}

function trimmed(value: number, digits: number): string {
  return String(Number(value.toFixed(digits)));
}
