/** Models, their checkpoints and where they come from: what to ask for, and what can be done. */
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import { apiHref } from "@/api/location";
import type { Listing } from "@/api/paging";
import { PAGE } from "@/api/paging";
import type { Checkpoint, Model, Schema } from "@/api/types";

export type ModelCard = Schema<"ModelCard">;
export type CardMetric = Schema<"CardMetric">;
export type Lineage = Schema<"Lineage">;
export type LineageRun = Schema<"LineageRun">;

/** A federation's models, newest first. */
export function modelsListing(federation: string): Listing<Model> {
  return {
    queryKey: [...keys.domain(federation, "models"), "listing"],
    page: (cursor, signal) =>
      unwrap(
        api.GET("/v1/federations/{federation}/models", {
          params: { path: { federation }, query: { limit: PAGE, ...(cursor === undefined ? {} : { cursor }) } },
          signal,
        }),
      ),
  };
}

export function modelQuery(federation: string, model: string) {
  return queryOptions({
    queryKey: [...keys.domain(federation, "models"), "one", model],
    queryFn: ({ signal }) =>
      unwrap(api.GET("/v1/federations/{federation}/models/{model}", { params: { path: { federation, model } }, signal })),
  });
}

/** A model's checkpoints, newest first. */
export function checkpointsListing(federation: string, model: string): Listing<Checkpoint> {
  return {
    queryKey: [...keys.domain(federation, "models"), "checkpoints", model],
    page: (cursor, signal) =>
      unwrap(
        api.GET("/v1/federations/{federation}/models/{model}/checkpoints", {
          params: { path: { federation, model }, query: { limit: PAGE, ...(cursor === undefined ? {} : { cursor }) } },
          signal,
        }),
      ),
  };
}

/** What a model's runs made of each other's checkpoints. */
export function lineageQuery(federation: string, model: string) {
  return queryOptions({
    queryKey: [...keys.domain(federation, "models"), "lineage", model],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/v1/federations/{federation}/models/{model}/lineage", {
          params: { path: { federation, model } },
          signal,
        }),
      ),
  });
}

/** What there is to know of a checkpoint. */
export function cardQuery(federation: string, checkpointId: string) {
  return queryOptions({
    queryKey: [...keys.domain(federation, "models"), "card", checkpointId],
    queryFn: async ({ signal }) => {
      const params = { path: { federation, checkpoint_id: checkpointId } };
      const card = await unwrap(
        api.GET("/v1/federations/{federation}/checkpoints/{checkpoint_id}/card", { params, signal }),
      );
      return card as ModelCard; // JSON: another format was not asked for
    },
  });
}

export function contentHref(federation: string, checkpointId: string): string {
  return apiHref(`/v1/federations/${encodeURIComponent(federation)}/checkpoints/${checkpointId}/content`);
}

export function cardHref(federation: string, checkpointId: string): string {
  return apiHref(`/v1/federations/${encodeURIComponent(federation)}/checkpoints/${checkpointId}/card?format=markdown`);
}

/** Returns "round 12 of baseline", "round 12" or "an uploaded file". */
export function originOf(runName: string | null, round: number | null): string {
  if (round === null) return "an uploaded file";
  return runName === null ? `round ${round}` : `round ${round} of ${runName}`;
}

/** Returns the name under which the hub sends a checkpoint's file. */
export function fileName({ round_number: round }: Pick<Checkpoint, "round_number">): string {
  return `${round === null ? "base" : `round-${round}`}.safetensors`;
}

export function createModel(federation: string, body: Schema<"ModelCreate">): Promise<Model> {
  return unwrap(
    api.POST("/v1/federations/{federation}/models", {
      params: { path: { federation } },
      body,
    }),
  );
}

/** Makes an uploaded file the model's newest checkpoint. */
export function addCheckpoint(federation: string, model: string, body: Schema<"CheckpointCreate">): Promise<Checkpoint> {
  return unwrap(
    api.POST("/v1/federations/{federation}/models/{model}/checkpoints", {
      params: { path: { federation, model } },
      body,
    }),
  );
}
