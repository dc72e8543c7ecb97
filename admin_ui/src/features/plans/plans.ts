/** What plans may say, what one would do, and the runs that are made of them. */
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import type { Listing } from "@/api/paging";
import { PAGE } from "@/api/paging";
import { ProblemError } from "@/api/problems";
import type { Model, Run, RunPlan, Schema, Site } from "@/api/types";
import type { JsonObject } from "@/features/plans/json";
import { readSchema } from "@/features/plans/planSchema";

export type RunPreview = Schema<"RunPreview">;

/** The fields of a plan, as this hub accepts them. */
export const planFieldsQuery = queryOptions({
  queryKey: keys.planSchema,
  queryFn: async ({ signal }) => readSchema((await unwrap(api.GET("/v1/plan-schema", { signal }))) as JsonObject),
  staleTime: 5 * 60_000,
});

/** What the hub says of a plan: what its run would do, or why there cannot be one. */
export type Verdict = { preview: RunPreview; problem: null } | { preview: null; problem: ProblemError };

const NO_VERDICT = new Set([401, 403, 429]); // an error of the request, not of the plan

/** What a run of this plan would do. Nothing is stored. */
export function verdictQuery(federation: string, plan: JsonObject, checkpointId: string | null) {
  return queryOptions({
    // Sites come and go: their events make it stale.
    queryKey: [...keys.domain(federation, "sites"), "verdict", plan, checkpointId],
    queryFn: async ({ signal }): Promise<Verdict> => {
      const body = { plan: asPlan(plan), checkpoint_id: checkpointId };
      const path = { federation };
      try {
        const answer = api.POST("/v1/federations/{federation}/runs/preview", { params: { path }, body, signal });
        return { preview: await unwrap(answer), problem: null };
      } catch (error) {
        const isOfPlan = error instanceof ProblemError && error.status < 500 && !NO_VERDICT.has(error.status);
        if (isOfPlan) return { preview: null, problem: error };
        throw error;
      }
    },
    gcTime: 30_000,
  });
}

export function createRun(federation: string, body: Schema<"RunCreate">, key: string): Promise<Run> {
  return unwrap(
    api.POST("/v1/federations/{federation}/runs", {
      params: { path: { federation }, header: { "idempotency-key": key } },
      body,
    }),
  );
}

export function forkRun(federation: string, runId: string, body: Schema<"RunFork">, key: string): Promise<Run> {
  return unwrap(
    api.POST("/v1/federations/{federation}/runs/{run_id}/fork", {
      params: { path: { federation, run_id: runId }, header: { "idempotency-key": key } },
      body,
    }),
  );
}

/** A plan without its defaults is a plan: the hub fills them in. The types know none without. */
export function asPlan(plan: JsonObject): RunPlan {
  return plan as unknown as RunPlan;
}

/** All sites that could be named in a plan. */
export function siteChoices(federation: string): Listing<Site> {
  return {
    queryKey: [...keys.domain(federation, "sites"), "choices"],
    page: (cursor, signal) => {
      const query = { state: ["active" as const], limit: PAGE, ...(cursor === undefined ? {} : { cursor }) };
      return unwrap(
        api.GET("/v1/federations/{federation}/sites", { params: { path: { federation }, query }, signal }),
      );
    },
  };
}

/** All models of the federation, to choose one. */
export function modelChoices(federation: string): Listing<Model> {
  return {
    queryKey: [...keys.domain(federation, "models"), "choices"],
    page: (cursor, signal) => {
      const query = { limit: PAGE, ...(cursor === undefined ? {} : { cursor }) };
      return unwrap(
        api.GET("/v1/federations/{federation}/models", { params: { path: { federation }, query }, signal }),
      );
    },
  };
}
