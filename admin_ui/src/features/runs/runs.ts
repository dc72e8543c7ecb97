/** Runs, their rounds and their curves: what to ask the hub for, and what can be done. */
import type { QueryClient, QueryKey } from "@tanstack/react-query";
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import type { Listing, Page } from "@/api/paging";
import { PAGE } from "@/api/paging";
import type { Round, Run, Schema } from "@/api/types";
import { RUN_STATES, isLive, isOpen } from "@/components/states";
import { joinRounds } from "@/features/runs/rounds";

export type RunCurves = Schema<"RunCurves">;
export type MetricCurve = Schema<"MetricCurve">;
export type RunState = Schema<"RunState">;

/** Progress within a round comes with heartbeats, of which no event tells. */
const PROGRESS_MS = 2000;
const CURVE_POINTS = 240;
const SPARK_POINTS = 32;
const NEWEST = 20; // rounds looked at when something has happened
const FIRST = 50; // rounds in the first page, so that the page has something soon
const MOST_ROUNDS = 5000;

export interface RunFilter {
  states?: readonly RunState[];
  modelId?: string | undefined;
  named?: string | undefined;
}

/** A federation's runs, newest first. */
export function runsListing(federation: string, filter: RunFilter = {}): Listing<Run> {
  const { states = [], modelId, named } = filter;
  return {
    queryKey: [...keys.domain(federation, "runs"), "list", { states, modelId, named }],
    page: (cursor, signal) =>
      unwrap(
        api.GET("/v1/federations/{federation}/runs", {
          params: {
            path: { federation },
            query: {
              limit: PAGE,
              ...(states.length > 0 ? { state: [...states] } : {}),
              ...(modelId === undefined ? {} : { model_id: modelId }),
              ...(named ? { q: named } : {}),
              ...(cursor === undefined ? {} : { cursor }),
            },
          },
          signal,
        }),
      ),
  };
}

export function isRunState(word: string): word is RunState {
  return word in RUN_STATES;
}

/** One run. While it is open it is read every few seconds too: what it waits for changes without an event. */
export function runQuery(federation: string, runId: string) {
  return queryOptions({
    queryKey: [...keys.run(federation, runId), "run"],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/v1/federations/{federation}/runs/{run_id}", {
          params: { path: { federation, run_id: runId } },
          signal,
        }),
      ),
    refetchInterval: ({ state }) =>
      state.data?.state === "running" || state.data?.state === "queued" ? 2 * PROGRESS_MS : false,
  });
}

/** A run's rounds, newest first. */
export interface RoundHistory {
  rounds: Round[];
  isWhole: boolean; // nothing older is on its way
  older: string | undefined; // cursor of what is not there yet
}

/**
 * All rounds of a run with their counts, as many as MOST_ROUNDS.
 *
 * Closed rounds do not change: once they are known, only what is newer is asked for. A long run's
 * rounds are there page by page.
 */
export function roundsQuery(federation: string, runId: string) {
  const queryKey: QueryKey = [...keys.run(federation, runId), "rounds"];
  return queryOptions({
    queryKey,
    queryFn: ({ client, signal }) => readRounds(client, queryKey, federation, runId, signal),
  });
}

async function readRounds(
  client: QueryClient,
  queryKey: QueryKey,
  federation: string,
  runId: string,
  signal: AbortSignal,
): Promise<RoundHistory> {
  const read = (limit: number, cursor: string | undefined) =>
    unwrap(
      api.GET("/v1/federations/{federation}/runs/{run_id}/rounds", {
        params: {
          path: { federation, run_id: runId },
          query: { newest: true, counts: true, limit, ...(cursor === undefined ? {} : { cursor }) },
        },
        signal,
      }),
    );
  const known = client.getQueryData<RoundHistory>(queryKey);
  let history = await readNewest(read, known);
  // An event may come before all is read: what is there is kept, and the next reading goes on from it.
  while (!history.isWhole) {
    client.setQueryData<RoundHistory>(queryKey, history);
    const page = await read(PAGE, history.older);
    history = withOlder(history.rounds, page);
  }
  return history;
}

type Read = (limit: number, cursor: string | undefined) => Promise<Page<Round>>;

/** Returns what is known with all that is newer; of a run that is not known its first page. */
async function readNewest(read: Read, known: RoundHistory | undefined): Promise<RoundHistory> {
  const closed = new Set(known?.rounds.filter((round) => !isOpen(round.state)).map((round) => round.id));
  let newer: Round[] = [];
  let cursor: string | undefined;
  do {
    const page = await read(known === undefined ? FIRST : NEWEST, cursor);
    if (known === undefined) return withOlder([], page);
    newer = [...newer, ...page.items];
    const oldest = page.items.at(-1);
    if (oldest !== undefined && closed.has(oldest.id)) return { ...known, rounds: joinRounds(newer, known.rounds) };
    cursor = page.next_cursor ?? undefined;
  } while (cursor !== undefined);
  return { rounds: newer, isWhole: true, older: undefined };
}

function withOlder(rounds: readonly Round[], page: Page<Round>): RoundHistory {
  const all = [...rounds, ...page.items];
  const older = page.next_cursor ?? undefined;
  return { rounds: all, isWhole: older === undefined || all.length >= MOST_ROUNDS, older };
}

/** One round with every site's part; of a round that was held again the last try. */
export function roundQuery(federation: string, runId: string, number: number) {
  return queryOptions({
    queryKey: [...keys.run(federation, runId), "round", number],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/v1/federations/{federation}/runs/{run_id}/rounds/{number}", {
          params: { path: { federation, run_id: runId, number } },
          signal,
        }),
      ),
    refetchInterval: ({ state }) =>
      state.data !== undefined && isOpen(state.data.state) ? PROGRESS_MS : false,
  });
}

/** Curves of runs, at most 20 of them. They grow when a round does, not with each task. */
export function curvesQuery(
  federation: string,
  runIds: readonly string[],
  { sites = false, points = CURVE_POINTS, only }: CurveOptions = {},
) {
  const chosen = only === undefined ? {} : { most_sites: 0, site: [...only] };
  return queryOptions({
    queryKey: [...keys.domain(federation, "runs"), "curves", { runIds, sites, points, ...chosen }],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/v1/federations/{federation}/curves", {
          params: { path: { federation }, query: { run: [...runIds], sites, points, ...chosen } },
          signal,
        }),
      ),
    enabled: runIds.length > 0,
  });
}

export interface CurveOptions {
  sites?: boolean; // each site's own numbers: of many sites those with the most
  points?: number; // most rounds of a curve
  only?: readonly string[]; // ids: the numbers of these sites and no others
}

const MOST_RUNS = 20; // in one request for curves

interface Asked {
  runId: string;
  resolve: (curves: RunCurves) => void;
  reject: (error: unknown) => void;
}

const asked = new Map<string, Asked[]>(); // by federation: runs whose rows came into view together

/** A few points of a run's curves: the rows of a list that are in view share their requests. */
export function sparkQuery(federation: string, run: Pick<Run, "id" | "state">) {
  const root = isLive(run.state) ? keys.domain(federation, "runs") : keys.federation(federation);
  return queryOptions({
    queryKey: [...root, "spark", run.id],
    queryFn: () =>
      new Promise<RunCurves>((resolve, reject) => {
        const together = asked.get(federation) ?? [];
        if (together.length === 0) window.setTimeout(() => void askTogether(federation), 20);
        together.push({ runId: run.id, resolve, reject });
        asked.set(federation, together);
      }),
    staleTime: isLive(run.state) ? 5000 : Infinity,
  });
}

async function askTogether(federation: string): Promise<void> {
  const all = asked.get(federation) ?? [];
  asked.delete(federation);
  for (let from = 0; from < all.length; from += MOST_RUNS) {
    const some = all.slice(from, from + MOST_RUNS);
    try {
      const set = await unwrap(
        api.GET("/v1/federations/{federation}/curves", {
          params: {
            path: { federation },
            query: { run: [...new Set(some.map((one) => one.runId))], points: SPARK_POINTS },
          },
        }),
      );
      const byId = new Map(set.runs.map((curves) => [curves.run_id, curves]));
      for (const { runId, resolve } of some) {
        resolve(byId.get(runId) ?? { run_id: runId, run_name: "", curves: [], reporting: [] });
      }
    } catch (error) {
      for (const { reject } of some) reject(error);
    }
  }
}

function inRun(federation: string, runId: string) {
  return { params: { path: { federation, run_id: runId } } };
}

export function startRun(federation: string, runId: string): Promise<Run> {
  return unwrap(api.POST("/v1/federations/{federation}/runs/{run_id}/start", inRun(federation, runId)));
}

/** Pauses a run: "finish" lets its round end, "burn" stops it to hold it again later. */
export function pauseRun(federation: string, runId: string, round: "finish" | "burn"): Promise<Run> {
  return unwrap(
    api.POST("/v1/federations/{federation}/runs/{run_id}/pause", {
      ...inRun(federation, runId),
      body: { round },
    }),
  );
}

export function resumeRun(federation: string, runId: string): Promise<Run> {
  return unwrap(api.POST("/v1/federations/{federation}/runs/{run_id}/resume", inRun(federation, runId)));
}

export function cancelRun(federation: string, runId: string): Promise<Run> {
  return unwrap(api.POST("/v1/federations/{federation}/runs/{run_id}/cancel", inRun(federation, runId)));
}
