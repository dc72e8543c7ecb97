/** The hub's wrong fields, each at the field of the form that it is about. */

export interface FieldError {
  path: string;
  message: string;
}

/** Errors by dotted path of the plan; "" is the plan as a whole. */
export type PlanErrors = ReadonlyMap<string, readonly string[]>;

/**
 * Returns errors by the path within the plan.
 *
 * The hub puts before a path where the plan was in the request. An error about a whole section is
 * put at the first of `known` fields that its words name: that is where a person looks.
 */
export function errorsByPath(errors: readonly FieldError[], known: readonly string[]): PlanErrors {
  const found = new Map<string, string[]>();
  for (const error of errors) {
    const message = plain(error.message);
    const path = closest(withinPlan(error.path), message, known);
    found.set(path, [...(found.get(path) ?? []), message]);
  }
  return found;
}

/** Returns the errors at a path itself. */
export function errorsAt(errors: PlanErrors, path: string): readonly string[] {
  return errors.get(path) ?? [];
}

/** Returns the errors at a path or below it, those below with what leads there. */
export function errorsWithin(errors: PlanErrors, path: string): string[] {
  return [...errors].flatMap(([at, messages]) => {
    if (at === path) return messages;
    return at.startsWith(`${path}.`) ? messages.map((message) => `${at.slice(path.length + 1)}: ${message}`) : [];
  });
}

/** Returns which of a form's fields an error is in; undefined: in none. */
export function fieldOf(path: string, known: readonly string[]): string | undefined {
  const holders = known.filter((field) => path === field || path.startsWith(`${field}.`));
  return holders.sort((one, other) => other.length - one.length)[0];
}

function withinPlan(path: string): string {
  const parts = path.split(".");
  while (parts[0] === "body" || parts[0] === "plan" || parts[0] === "changes") parts.shift();
  return parts.join(".");
}

function plain(message: string): string {
  const text = message.replace(/^Value error, /, "");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function closest(path: string, message: string, known: readonly string[]): string {
  if (fieldOf(path, known) !== undefined) return path;
  const prefix = path === "" ? "" : `${path}.`;
  const places = known
    .filter((field) => field.startsWith(prefix))
    .map((field) => ({ field, at: mention(message, field.slice(prefix.length)) }))
    .filter((place) => place.at >= 0);
  return places.sort((one, other) => one.at - other.at)[0]?.field ?? path;
}

/** Returns where a message names a field, -1 for nowhere: as a word of its own. */
function mention(message: string, name: string): number {
  const word = new RegExp(`(?<![\\w.])${name.replaceAll(".", "\\.")}(?![\\w])`, "i");
  return message.search(word);
}
