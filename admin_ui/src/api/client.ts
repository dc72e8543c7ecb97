/** The one client of the hub's REST API, typed by its OpenAPI document. */
import createClient from "openapi-fetch";

import { apiPath } from "@/api/location";
import { ProblemError, UnreachableError, problemOf } from "@/api/problems";
import type { paths } from "@/api/schema";

type Listener = () => void;
const sessionEnds = new Set<Listener>();

/** Calls `listener` whenever the hub says that nobody is signed in. Returns what unsubscribes. */
export function onSessionEnd(listener: Listener): () => void {
  sessionEnds.add(listener);
  return () => sessionEnds.delete(listener);
}

export const api = createClient<paths>({
  baseUrl: apiPath,
  credentials: "same-origin",
  // Other origins' pages cannot send it, so a cookie alone changes nothing.
  headers: { "Hansa-Client": "console" },
  fetch: (request) => globalThis.fetch(request),
});

interface Answer<Data> {
  data?: Data;
  error?: unknown;
  response: Response;
}

/**
 * Returns the data of an answer.
 *
 * @throws ProblemError the hub refuses; UnreachableError nothing answers.
 */
export async function unwrap<Data>(request: Promise<Answer<Data>>): Promise<Data> {
  let answer: Answer<Data>;
  try {
    answer = await request;
  } catch (error) {
    if (error instanceof DOMException && error.name === "AbortError") throw error;
    throw new UnreachableError();
  }
  if (answer.response.ok) return answer.data as Data;
  if (answer.response.status === 401) for (const listener of sessionEnds) listener();
  throw new ProblemError(problemOf(answer.response.status, answer.error));
}
