/** What goes wrong with a request, as one error type: the hub's problem document or no answer. */
import type { components } from "@/api/schema";

export type Problem = components["schemas"]["Problem"];

/** An answer of the hub that refuses: its title, detail and wrong fields. */
export class ProblemError extends Error {
  readonly problem: Problem;

  constructor(problem: Problem) {
    super(problem.detail);
    this.name = "ProblemError";
    this.problem = problem;
  }

  get status(): number {
    return this.problem.status;
  }
}

/** No answer at all: the hub is not reachable. */
export class UnreachableError extends Error {
  constructor() {
    super("The hub does not answer. The console tries again by itself.");
    this.name = "UnreachableError";
  }
}

export interface Described {
  title: string;
  detail: string;
  fields: { path: string; message: string }[];
}

/** Returns what to show of any error. */
export function describe(error: unknown): Described {
  if (error instanceof ProblemError) {
    const { title, detail, errors } = error.problem;
    return { title, detail, fields: errors ?? [] };
  }
  if (error instanceof UnreachableError) {
    return { title: "No connection", detail: error.message, fields: [] };
  }
  const detail = error instanceof Error ? error.message : String(error);
  return { title: "Something went wrong", detail, fields: [] };
}

/** Reads the body of a refusal, which a proxy in between may have written. */
export function problemOf(status: number, body: unknown): Problem {
  if (isProblem(body)) return body;
  return {
    type: "about:blank",
    slug: "no-problem-document",
    title: `The answer was ${status}`,
    detail: "Whatever answered was not the hub: a proxy in between may be misconfigured.",
    status,
  };
}

function isProblem(body: unknown): body is Problem {
  return typeof body === "object" && body !== null && "slug" in body && "detail" in body;
}
