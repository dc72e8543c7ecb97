/** Alerts: what needs somebody's attention. */
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import type { Listing } from "@/api/paging";
import { PAGE } from "@/api/paging";
import type { Alert } from "@/api/types";
import type { Action } from "@/features/federations/federations";

const OVERVIEW = 6;

/** All alerts, or only the open ones, newest first. */
export function alerts(federation: string, onlyOpen: boolean): Listing<Alert> {
  return {
    queryKey: [...keys.domain(federation, "alerts"), onlyOpen ? "open" : "all"],
    page: (cursor, signal) =>
      unwrap(
        api.GET("/v1/federations/{federation}/alerts", {
          params: {
            path: { federation },
            query: { limit: PAGE, ...(onlyOpen ? { open: true } : {}), ...(cursor === undefined ? {} : { cursor }) },
          },
          signal,
        }),
      ),
  };
}

/** A few of the open alerts, for an overview. */
export function openAlertsQuery(federation: string) {
  return queryOptions({
    queryKey: [...keys.domain(federation, "alerts"), "overview"],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/v1/federations/{federation}/alerts", {
          params: { path: { federation }, query: { open: true, limit: OVERVIEW } },
          signal,
        }),
      ),
  });
}

export function acknowledge(federation: string, alertId: string): Promise<Alert> {
  return unwrap(
    api.POST("/v1/federations/{federation}/alerts/{alert_id}/acknowledge", {
      params: { path: { federation, alert_id: alertId } },
    }),
  );
}

/** Returns what the person must be allowed to do, to acknowledge an alert of a kind. */
export function actionFor(kind: string): Action {
  if (kind.startsWith("site-")) return "enroll";
  if (/^(task|run|aggregation|secure)-/.test(kind)) return "run";
  return "govern";
}

export const SEVERITIES: Record<string, { label: string; colour: string }> = {
  critical: { label: "critical", colour: "red" },
  warning: { label: "warning", colour: "orange" },
  info: { label: "info", colour: "blue" },
};
