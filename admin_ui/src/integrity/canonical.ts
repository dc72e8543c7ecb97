/**
 * Canonical JSON, checked as text: one value has one text, so that both ends hash the same bytes.
 *
 * The rules are hansa_core.canonical's: no white space; keys in the order of their code points, none
 * twice; in strings only quote, backslash and control characters escaped; integers of 64 bits in
 * full; floats as Python writes them (1.0, 1e-07), which JSON.parse alone could not tell from 1.
 */

const MAX_DEPTH = 32;
const LEAST = -(2n ** 63n);
const GREATEST = 2n ** 64n - 1n;
const NUMBER = /-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?/y;
const PLAIN = /[^"\\\u0000-\u001f]*/y;
const ESCAPE = /\\(?:["\\bfnrt]|u00(?:0[0-7be-f]|1[0-9a-f]))/y;

/** Returns why a text is not canonical JSON, or null when it is. */
export function canonicalProblem(text: string): string | null {
  try {
    const reader = new Reader(text);
    reader.value(0);
    reader.end();
    return null;
  } catch (error) {
    if (error instanceof NotCanonicalError) return error.message;
    throw error;
  }
}

class NotCanonicalError extends Error {}

class Reader {
  private at = 0;

  constructor(private readonly text: string) {}

  value(depth: number): void {
    if (depth > MAX_DEPTH) this.fail(`nested deeper than ${MAX_DEPTH}`);
    const next = this.text.charAt(this.at);
    if (next === "{") this.object(depth);
    else if (next === "[") this.list(depth);
    else if (next === '"') this.string();
    else if (next === "-" || (next >= "0" && next <= "9")) this.number();
    else if (!["null", "true", "false"].some((word) => this.take(word))) this.fail("no value in canonical form");
  }

  end(): void {
    if (this.at < this.text.length) this.fail("something follows the value");
  }

  private object(depth: number): void {
    this.at += 1;
    if (this.take("}")) return;
    let before: string | null = null;
    do {
      const key = this.string();
      if (before !== null && compareCodePoints(before, key) >= 0) {
        this.fail(`the key ${JSON.stringify(key)} stands out of order or twice`);
      }
      before = key;
      if (!this.take(":")) this.fail("no colon after a key");
      this.value(depth + 1);
    } while (this.take(","));
    if (!this.take("}")) this.fail("an object that does not end");
  }

  private list(depth: number): void {
    this.at += 1;
    if (this.take("]")) return;
    do this.value(depth + 1);
    while (this.take(","));
    if (!this.take("]")) this.fail("a list that does not end");
  }

  private string(): string {
    const from = this.at;
    if (!this.take('"')) this.fail("no string where a key belongs");
    for (;;) {
      this.match(PLAIN);
      if (this.take('"')) break;
      if (this.match(ESCAPE) === null) this.fail("a string with an escape that is not canonical");
    }
    const value = JSON.parse(this.text.slice(from, this.at)) as string;
    if (/\p{Surrogate}/u.test(value)) this.fail("a string with half a character");
    return value;
  }

  private number(): void {
    const found = this.match(NUMBER);
    if (found === null) this.fail("no number");
    const [token, fraction, exponent] = found;
    if (fraction === undefined && exponent === undefined) {
      const whole = BigInt(token);
      if (token === "-0" || whole < LEAST || whole > GREATEST) this.fail(`the integer ${token} is not one of 64 bits`);
    } else if (pythonFloat(Number(token)) !== token) {
      this.fail(`the number ${token} is not in its shortest form`);
    }
  }

  private take(word: string): boolean {
    if (!this.text.startsWith(word, this.at)) return false;
    this.at += word.length;
    return true;
  }

  private match(pattern: RegExp): RegExpExecArray | null {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found !== null) this.at += found[0].length;
    return found;
  }

  private fail(why: string): never {
    throw new NotCanonicalError(`no canonical JSON, character ${this.at + 1}: ${why}`);
  }
}

/** Returns a float as Python's repr: the same shortest digits as JavaScript's, in another dress. */
export function pythonFloat(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (value === 0) return Object.is(value, -0) ? "-0.0" : "0.0";
  const [digits = "", power = ""] = value.toExponential().split("e");
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) {
    const size = String(Math.abs(exponent)).padStart(2, "0");
    return `${digits}e${exponent < 0 ? "-" : "+"}${size}`;
  }
  const sign = value < 0 ? "-" : "";
  const all = digits.replace("-", "").replace(".", "");
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${all}`;
  const whole = all.slice(0, exponent + 1).padEnd(exponent + 1, "0");
  return `${sign}${whole}.${all.slice(exponent + 1) || "0"}`;
}

/** Orders texts by code points, which UTF-16 units are not for characters beyond U+FFFF. */
function compareCodePoints(one: string, other: string): number {
  const [first, second] = [codePoints(one), codePoints(other)];
  for (const [at, point] of first.entries()) {
    const difference = point - (second[at] ?? -1);
    if (difference !== 0) return difference;
  }
  return first.length - second.length;
}

function codePoints(text: string): number[] {
  return Array.from(text, (character) => character.codePointAt(0) ?? 0);
}
