/** The command that does what the fork's form would do. */
import type { Json, JsonObject } from "@/features/plans/json";
import { isObject } from "@/features/plans/json";
import { inline } from "@/features/plans/toml";

/** Returns the shell command of a fork, one option a line where there are many. */
export function forkCommand(runId: string, name: string, round: number, changes: JsonObject): string {
  const options = [`--name ${quoted(name)}`, `--round ${round}`, ...assignments(changes).map((one) => `--set ${quoted(one)}`)];
  return `hansa run fork ${runId} \\\n  ${options.join(" \\\n  ")}`;
}

function assignments(changes: JsonObject, above = ""): string[] {
  return Object.entries(changes).flatMap(([key, value]) => {
    const path = above === "" ? key : `${above}.${key}`;
    return isObject(value) && Object.keys(value).length > 0 ? assignments(value, path) : [`${path}=${valueText(value)}`];
  });
}

/** The command reads values as TOML; null takes a field away, and a plain word is itself. */
function valueText(value: Json): string {
  if (value === null) return "null";
  const isWord = typeof value === "string" && /^[A-Za-z][\w-]*$/.test(value);
  return isWord && !["true", "false", "null", "inf", "nan"].includes(value) ? value : inline(value);
}

function quoted(word: string): string {
  return /^[\w./:=@%+,-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
