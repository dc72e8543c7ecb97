/**
 * The federation's event stream: what happened makes the queries about it stale.
 *
 * Events come in bursts (a round of fifty sites), so queries are told together, at most once in
 * TOGETHER_MS. The browser reconnects by itself and names the last id it has seen; where it gives
 * up (the answer was an error) we open the stream again, later each time.
 */
import { useQueryClient } from "@tanstack/react-query";
import type { QueryClient, QueryKey } from "@tanstack/react-query";
import { useEffect, useState } from "react";

import { keys } from "@/api/keys";
import { apiHref } from "@/api/location";
import type { Event } from "@/api/types";

export type Connection = "connecting" | "live" | "lost";

const TOGETHER_MS = 700;
const FIRST_RETRY_MS = 1000;
const LAST_RETRY_MS = 15_000;

/** What the hub and the sites do from day to day, which is in no audit log. */
const UNAUDITED = /^(task|round|roster|duty)\./;

/** What an event of a kind makes stale, beside the newest events themselves. */
export function staleBy(
  slug: string,
  event: Pick<Event, "kind" | "run_id"> & Partial<Pick<Event, "data">>,
): QueryKey[] {
  const subject = event.kind.split(".")[0] ?? "";
  const siteId = event.data?.["site_id"];
  const run = event.run_id == null ? [] : [keys.run(slug, event.run_id)];
  switch (subject) {
    case "site":
      return [keys.domain(slug, "sites"), keys.domain(slug, "overview"), keys.domain(slug, "invitations")];
    case "invitation":
      return [keys.domain(slug, "invitations")];
    case "member":
      return [keys.domain(slug, "members")];
    case "run":
      return [...run, keys.domain(slug, "runs"), keys.domain(slug, "overview"), keys.domain(slug, "models")];
    case "round":
      return [...run, keys.domain(slug, "runs"), keys.domain(slug, "overview"), keys.domain(slug, "models")];
    case "alert":
      return [keys.domain(slug, "alerts"), keys.domain(slug, "overview")];
    case "channel":
      return [keys.domain(slug, "channels")];
    case "model":
    case "checkpoint":
      return [keys.domain(slug, "models")];
    case "federation":
      return [keys.federation(slug), keys.overviews];
    default:
      return typeof siteId === "string" ? [...run, keys.site(slug, siteId)] : run;
  }
}

/** Follows a federation for as long as the component is there; tells how the connection is. */
export function useLive(slug: string): Connection {
  const queryClient = useQueryClient();
  const [connection, setConnection] = useState<Connection>("connecting");
  useEffect(() => follow(slug, queryClient, setConnection), [slug, queryClient]);
  return connection;
}

function follow(
  slug: string,
  queryClient: QueryClient,
  tell: (connection: Connection) => void,
): () => void {
  const stale = new Map<string, QueryKey>();
  let source: EventSource | undefined;
  let lastId = "";
  let retryMs = FIRST_RETRY_MS;
  let retry: number | undefined;
  let flush: number | undefined;
  let wasLost = false;

  function heard(message: MessageEvent<string>): void {
    lastId = message.lastEventId || lastId;
    const event = JSON.parse(message.data) as Event;
    const audited = UNAUDITED.test(event.kind) ? [] : [keys.domain(slug, "audit")];
    for (const key of [...staleBy(slug, event), ...audited, keys.domain(slug, "events")]) {
      stale.set(JSON.stringify(key), key);
    }
    flush ??= window.setTimeout(() => {
      flush = undefined;
      for (const queryKey of stale.values()) void queryClient.invalidateQueries({ queryKey });
      stale.clear();
    }, TOGETHER_MS);
  }

  function open(): void {
    const after = lastId ? `&after=${encodeURIComponent(lastId)}` : "";
    const path = `/v1/federations/${encodeURIComponent(slug)}/events/stream?unnamed=true${after}` as const;
    source = new EventSource(apiHref(path));
    source.onopen = () => {
      retryMs = FIRST_RETRY_MS;
      tell("live");
      // What was asked while nobody answered may have failed; what changed meanwhile is told anyway.
      if (wasLost) void queryClient.invalidateQueries();
      wasLost = false;
    };
    source.onerror = () => {
      wasLost = true;
      tell("lost");
      if (source?.readyState !== EventSource.CLOSED) return; // it tries again by itself
      source.close();
      void queryClient.invalidateQueries({ queryKey: keys.session }); // an ended session says so
      retry = window.setTimeout(open, retryMs);
      retryMs = Math.min(retryMs * 2, LAST_RETRY_MS);
    };
    source.onmessage = heard;
  }

  open();
  return () => {
    source?.close();
    window.clearTimeout(retry);
    window.clearTimeout(flush);
  };
}
