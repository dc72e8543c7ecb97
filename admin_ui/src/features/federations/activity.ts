/** Events as sentences. */
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import type { Event } from "@/api/types";
import { humane } from "@/format/words";

const SHOWN = 40;

/** The federation's newest events, newest first. */
export function activityQuery(federation: string, runId?: string) {
  return queryOptions({
    queryKey: [...keys.domain(federation, "events"), runId ?? "all"],
    queryFn: ({ signal }) =>
      unwrap(
        api.GET("/v1/federations/{federation}/events", {
          params: {
            path: { federation },
            query: { newest: true, limit: SHOWN, ...(runId === undefined ? {} : { run_id: runId }) },
          },
          signal,
        }),
      ),
  });
}

/** Kinds that tell no more than their round does: one for each site and step. */
export function isDetail(event: Event): boolean {
  return /^(task\.(claimed|done)|roster\.|round\.(opened|signing|opening|aggregating))/.test(event.kind);
}

/** Returns an event's kind as words: "Round completed". */
export function titleOf(event: Event): string {
  return humane(event.kind.replace(".", " "));
}

/** Returns what an event is about: the run, the site, the round, the reason, as far as it says. */
export function subjectOf(event: Event): string {
  const told: string[] = [];
  const { data } = event;
  if (typeof data["round_number"] === "number") told.push(`round ${data["round_number"]}`);
  for (const key of ["name", "run_name", "site_name", "site", "email", "message", "reason", "error"]) {
    const value = data[key];
    if (typeof value === "string" && value !== "" && !told.includes(value)) told.push(value);
  }
  if (typeof data["by"] === "string") told.push(`by ${data["by"]}`);
  return told.join(" · ");
}

/** Returns where an event leads, below the federation's pages. */
export function pathOf(event: Event): string | null {
  if (event.run_id != null) {
    const round = event.data["round_number"];
    return `runs/${event.run_id}${typeof round === "number" && round > 0 ? `?round=${round}` : ""}`;
  }
  const subject = event.kind.split(".")[0];
  if (subject === "site" && typeof event.data["site_id"] === "string") return `sites/${event.data["site_id"]}`;
  const pages: Record<string, string> = {
    alert: "alerts", member: "members", channel: "channels", invitation: "sites", federation: "settings", model: "models",
  };
  return pages[subject ?? ""] ?? null;
}
