/** Readers of JSON values whose form no API document tells: what is read has the type it says. */

export type Read<T> = (value: unknown, path: string) => T;
type Fields = Record<string, Read<unknown>>;
type Left<L extends Fields> = { [Name in keyof L]: readonly [read: L[Name], empty: ReturnType<L[Name]>] };
type Of<F extends Fields> = { [Name in keyof F]: ReturnType<F[Name]> };

export class ShapeError extends Error {}

function wanted(what: string, value: unknown, path: string): never {
  const seen = value === undefined ? "nothing" : JSON.stringify(value).slice(0, 60);
  throw new ShapeError(`${path || "the body"}: ${seen}, wanted ${what}`);
}

export const text: Read<string> = (value, path) => (typeof value === "string" ? value : wanted("a text", value, path));

export const flag: Read<boolean> = (value, path) =>
  typeof value === "boolean" ? value : wanted("true or false", value, path);

export const digest: Read<string> = (value, path) =>
  typeof value === "string" && /^[0-9a-f]{64}$/.test(value) ? value : wanted("a SHA-256", value, path);

export function whole(least = 0): Read<number> {
  return (value, path) =>
    typeof value === "number" && Number.isInteger(value) && value >= least
      ? value
      : wanted(`a whole number from ${least}`, value, path);
}

export const number: Read<number> = (value, path) =>
  typeof value === "number" ? value : wanted("a number", value, path);

export function oneOf<Word extends string>(...words: readonly Word[]): Read<Word> {
  return (value, path) => words.find((word) => word === value) ?? wanted(words.join(" or "), value, path);
}

export function nullable<T>(read: Read<T>): Read<T | null> {
  return (value, path) => (value === null ? null : read(value, path));
}

export function list<T>(read: Read<T>): Read<T[]> {
  return (value, path) =>
    Array.isArray(value) ? value.map((item, at) => read(item, `${path}.${at}`)) : wanted("a list", value, path);
}

export function record<T>(read: Read<T>): Read<Record<string, T>> {
  return (value, path) => {
    const entries = Object.entries(object(value, path)).map(([name, item]) => [name, read(item, `${path}.${name}`)]);
    return Object.fromEntries(entries) as Record<string, T>;
  };
}

/** Fields that must all be there; `left` are left out where they are empty. No other is allowed. */
export function exactly<F extends Fields>(fields: F): Read<Of<F>>;
export function exactly<F extends Fields, L extends Fields>(fields: F, left: Left<L>): Read<Of<F> & Of<L>>;
export function exactly(fields: Fields, left: Left<Fields> = {}): Read<unknown> {
  return (value, path) => {
    const found = object(value, path);
    const strange = Object.keys(found).find((name) => !(name in fields) && !(name in left));
    if (strange !== undefined) throw new ShapeError(`${joined(path, strange)}: an unknown field`);
    const read: Record<string, unknown> = {};
    for (const [name, reader] of Object.entries(fields)) read[name] = reader(found[name], joined(path, name));
    for (const [name, [reader, empty]] of Object.entries(left)) {
      read[name] = name in found ? reader(found[name], joined(path, name)) : empty;
    }
    return read;
  };
}

function object(value: unknown, path: string): Record<string, unknown> {
  if (typeof value !== "object" || value === null || Array.isArray(value)) return wanted("an object", value, path);
  return value as Record<string, unknown>;
}

function joined(path: string, name: string): string {
  return path === "" ? name : `${path}.${name}`;
}
