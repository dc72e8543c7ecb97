/** Federations: how they are, and what the person may do in them. */
import { queryOptions, useQuery } from "@tanstack/react-query";
import { useParams } from "react-router";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import type { Listing } from "@/api/paging";
import { PAGE } from "@/api/paging";
import type { Schema } from "@/api/types";

export type Overview = Schema<"Overview">;
export type Action = "read" | "audit" | "run" | "enroll" | "govern" | "hold";

const REFRESH_MS = 10_000; // the list of all federations follows no stream

/** All federations of the person, each with its counts. */
export const overviews: Listing<Overview> = {
  queryKey: keys.overviews,
  page: (cursor, signal) =>
    unwrap(
      api.GET("/v1/overview", {
        params: { query: { limit: PAGE, ...(cursor === undefined ? {} : { cursor }) } },
        signal,
      }),
    ),
  refetchInterval: REFRESH_MS,
};

/** One federation with its counts. */
export function overviewQuery(federation: string) {
  return queryOptions({
    queryKey: keys.domain(federation, "overview"),
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/v1/federations/{federation}/overview", { params: { path: { federation } }, signal }),
      ),
    refetchInterval: 30_000, // sites go offline without an event at first
  });
}

/** Returns the slug in the address. */
export function useSlug(): string {
  const { federation } = useParams();
  if (federation === undefined) throw new Error("this page belongs below /f/:federation");
  return federation;
}

/** Returns whether the person may do `action` here; false until it is known. */
export function useMay(action: Action): boolean {
  const overview = useQuery(overviewQuery(useSlug()));
  return overview.data?.federation.my_actions?.includes(action) ?? false;
}
