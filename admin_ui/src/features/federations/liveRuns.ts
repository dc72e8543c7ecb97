/** The runs of an overview: those that can still change, and the names of the newest. */
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";

const SHOWN = 8;
const NAMED = 100; // of the newest runs

export function liveRunsQuery(federation: string) {
  return queryOptions({
    queryKey: [...keys.domain(federation, "runs"), "live"],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/v1/federations/{federation}/runs", {
          params: { path: { federation }, query: { state: ["running", "queued", "paused"], limit: SHOWN } },
          signal,
        }),
      ),
  });
}

/** The newest runs' names by their id: events name a run by its id alone. */
export function runNamesQuery(federation: string) {
  return queryOptions({
    queryKey: [...keys.domain(federation, "runs"), "names"],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/v1/federations/{federation}/runs", {
          params: { path: { federation }, query: { limit: NAMED } },
          signal,
        }),
      ),
    select: ({ items }) => new Map(items.map((run) => [run.id, run.name])),
    staleTime: 60_000,
  });
}
