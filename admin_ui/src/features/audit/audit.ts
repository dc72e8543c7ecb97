/** Audit logs, a federation's or the hub's own: what to ask for, and where they lie. */
import type { QueryKey } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import { apiHref } from "@/api/location";
import type { Listing } from "@/api/paging";
import { PAGE } from "@/api/paging";
import type { Schema } from "@/api/types";

export type AuditEntry = Schema<"AuditEntry">;
export type AuditHead = Schema<"AuditHead">;

/** Whose log: a federation's slug, or null for the hub's own. */
export type Log = string | null;

export interface AuditFilter {
  actor: string; // an email or a site's name; "": anybody
  action: string; // how it starts
  since: string; // a local day, YYYY-MM-DD
  until: string; // a local day, itself included
}

/** Returns the filter in an address. */
export function filterIn(search: URLSearchParams): AuditFilter {
  const of = (name: string) => search.get(name) ?? "";
  return { actor: of("actor"), action: of("action"), since: of("since"), until: of("until") };
}

/** Returns the beginning of a local day, or of one `later`, as the API takes it; undefined where it is none. */
export function startOf(day: string, later = 0): string | undefined {
  const at = new Date(`${day}T00:00`);
  if (Number.isNaN(at.getTime())) return undefined;
  at.setDate(at.getDate() + later);
  return at.toISOString();
}

const HUB_REFRESH_MS = 15_000; // no event tells of the hub's own log

export function logKey(log: Log): QueryKey {
  return log === null ? keys.hubAudit : keys.domain(log, "audit");
}

/** Entries, newest first. */
export function entries(log: Log, filter: AuditFilter): Listing<AuditEntry> {
  const { actor, action, since, until } = filter;
  const wanted = {
    actor: actor.trim() || undefined,
    action: action.trim() || undefined,
    since: startOf(since),
    until: startOf(until, 1), // exclusive there
  };
  const query = Object.fromEntries(Object.entries(wanted).filter(([, value]) => value !== undefined));
  return {
    queryKey: [...logKey(log), "entries", query],
    ...(log === null ? { refetchInterval: HUB_REFRESH_MS } : {}),
    page: (cursor, signal) => {
      const params = { query: { ...query, limit: PAGE, ...(cursor === undefined ? {} : { cursor }) } };
      return log === null
        ? unwrap(api.GET("/v1/audit", { params, signal }))
        : unwrap(
            api.GET("/v1/federations/{federation}/audit", {
              params: { ...params, path: { federation: log } },
              signal,
            }),
          );
    },
  };
}

/** Returns the newest entry's number and digest as the hub says now. */
export function readHead(log: Log, signal: AbortSignal): Promise<AuditHead> {
  return log === null
    ? unwrap(api.GET("/v1/audit/head", { signal }))
    : unwrap(api.GET("/v1/federations/{federation}/audit/head", { params: { path: { federation: log } }, signal }));
}

/** Where the whole log can be taken from, an entry a line. */
export function exportHref(log: Log): string {
  return apiHref(log === null ? "/v1/audit/export" : `/v1/federations/${encodeURIComponent(log)}/audit/export`);
}

/** Returns a command of the same log. */
export function auditCommand(log: Log, words: string): string {
  return `hansa audit ${words}${log === null ? " --hub" : ` --federation ${log}`}`;
}
