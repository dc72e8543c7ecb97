/** The runs that can still change. */
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";

const SHOWN = 8;

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
