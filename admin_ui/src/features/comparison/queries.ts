/** What only the comparison of runs asks for. */
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";

const LOOKED_AT = 5; // rounds, among which evaluations and failed tries may be

/** The last completed training round of a run with its counts; null where there is none. */
export function lastRoundQuery(federation: string, runId: string) {
  return queryOptions({
    queryKey: [...keys.run(federation, runId), "last-round"],
    queryFn: async ({ signal }) => {
      const page = await unwrap(
        api.GET("/v1/federations/{federation}/runs/{run_id}/rounds", {
          params: {
            path: { federation, run_id: runId },
            query: { newest: true, counts: true, limit: LOOKED_AT },
          },
          signal,
        }),
      );
      return page.items.find((round) => round.kind === "train" && round.state === "completed") ?? null;
    },
  });
}
