/** A log read from the hub as it comes, a line at a time: nothing of it is kept. */
import { ProblemError, UnreachableError, problemOf } from "@/api/problems";
import type { Log } from "@/features/audit/audit";
import { exportHref, readHead } from "@/features/audit/audit";
import type { Chain, Head } from "@/features/audit/chain";
import { ChainCheck } from "@/features/audit/chain";

const BREATH_MS = 50; // of work before the page may draw again
const LONGEST_LINE = 16 << 20; // characters

/**
 * Yields the lines of a stream of UTF-8, without their line feeds.
 *
 * @throws Error: the stream ends within a line, or a line is longer than an entry can be.
 */
export async function* linesOf(stream: ReadableStream<Uint8Array>): AsyncGenerator<string> {
  const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
  const reader = stream.getReader();
  let rest = "";
  try {
    for (;;) {
      const { done, value } = await reader.read();
      if (done) break;
      const lines = (rest + decoder.decode(value, { stream: true })).split("\n");
      rest = lines.pop() ?? "";
      if (rest.length > LONGEST_LINE) throw new Error(`a line of the export is longer than ${LONGEST_LINE} characters`);
      yield* lines;
    }
    if (rest + decoder.decode() !== "") throw new Error("the export ended within a line: try again");
  } finally {
    void reader.cancel().catch(() => undefined);
  }
}

export interface Progress {
  done: number;
  all: number;
}

/**
 * Checks a whole log in this browser, and that `kept` heads are still where they were.
 *
 * The head that the hub tells before is kept too: an export that ends early does not pass.
 *
 * @throws BrokenChainError: the log was changed. ProblemError, UnreachableError: it cannot be read.
 */
export async function checkLog(
  log: Log,
  kept: readonly Head[],
  tell: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<Chain | null> {
  const now = await readHead(log, signal);
  const heads = [...kept];
  if (now.digest !== null && heads.every((head) => head.number !== now.number)) {
    heads.push({ number: now.number, digest: now.digest });
  }
  const check = new ChainCheck(heads);
  let drawn = performance.now();
  for await (const line of linesOf(await openExport(log, signal))) {
    check.take(line);
    if (performance.now() - drawn < BREATH_MS) continue;
    tell({ done: check.count, all: Math.max(now.number, check.count) });
    await new Promise((resume) => setTimeout(resume));
    signal.throwIfAborted();
    drawn = performance.now();
  }
  return check.finish();
}

async function openExport(log: Log, signal: AbortSignal): Promise<ReadableStream<Uint8Array>> {
  let response: Response;
  try {
    response = await fetch(exportHref(log), { credentials: "same-origin", signal });
  } catch (error) {
    if (signal.aborted) throw error;
    throw new UnreachableError();
  }
  if (!response.ok || response.body === null) {
    throw new ProblemError(problemOf(response.status, await response.json().catch(() => null)));
  }
  return response.body;
}
