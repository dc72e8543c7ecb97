/** What plans may say, what one would do, and the runs that are made of them. */
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import type { Listing } from "@/api/paging";
import { PAGE } from "@/api/paging";
import type { Run, RunPlan, Schema, Site } from "@/api/types";
import type { JsonObject } from "@/features/plans/json";
import { readSchema } from "@/features/plans/planSchema";

export type RunPreview = Schema<"RunPreview">;

/** The fields of a plan, as this hub accepts them. */
export const planFieldsQuery = queryOptions({
  queryKey: keys.planSchema,
  queryFn: async ({ signal }) => readSchema((await unwrap(api.GET("/v1/plan-schema", { signal }))) as JsonObject),
  staleTime: 5 * 60_000,
});

/** What a run of this plan would do. Nothing is stored; a wrong plan is a problem with its fields. */
export function previewQuery(federation: string, plan: JsonObject, checkpointId: string | null) {
  return queryOptions({
    // Sites come and go: their events make it stale.
    queryKey: [...keys.domain(federation, "sites"), "preview", plan, checkpointId],
    queryFn: ({ signal }) =>
      unwrap(
        api.POST("/v1/federations/{federation}/runs/preview", {
          params: { path: { federation } },
          body: { plan: asPlan(plan), checkpoint_id: checkpointId },
          signal,
        }),
      ),
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
