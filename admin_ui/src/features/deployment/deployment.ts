/** How the hub's own parts are, for administrators. */
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import type { Schema } from "@/api/types";
import { formatSeconds } from "@/format/times";

export type Deployment = Schema<"Deployment">;

const REFRESH_MS = 5_000;

export const deploymentQuery = queryOptions({
  queryKey: keys.deployment,
  queryFn: ({ signal }) => unwrap(api.GET("/v1/deployment", { signal })),
  refetchInterval: REFRESH_MS,
});

export interface Verdict {
  isWell: boolean;
  words: string[]; // what is wrong, a sentence each
}

const OLD_WORK_SECONDS = 120;
const SCARCE_SPACE = 0.1;
const SCARCE_CONNECTIONS = 0.9;

/** Returns what an administrator should look at. */
export function judge(deployment: Deployment): Verdict {
  const { database, broker, store, work, workers } = deployment;
  const words: string[] = [];
  if (!database.ok) words.push(`The database does not answer: ${database.detail ?? "no reason given"}.`);
  else {
    if (database.migration !== database.newest_migration) {
      words.push(
        `The database is at migration ${database.migration ?? "none"}, the code wants ${database.newest_migration ?? "none"}.`,
      );
    }
    if (isNearly(database.connections, database.max_connections)) {
      words.push(`${database.connections ?? 0} of the database's ${database.max_connections ?? 0} connections are in use.`);
    }
  }
  if (!broker.ok) words.push(`The broker does not answer: ${broker.detail ?? "no reason given"}.`);
  else if (workers.length === 0) words.push("No worker answers: rounds are collected and not aggregated.");
  if (!store.ok) words.push(`The artifact store does not answer: ${store.detail ?? "no reason given"}.`);
  if (store.free_bytes != null && store.total_bytes != null && store.free_bytes < SCARCE_SPACE * store.total_bytes) {
    words.push("Less than a tenth of the artifact store's disk is free.");
  }
  if ((work.oldest_waiting_seconds ?? 0) > OLD_WORK_SECONDS) {
    words.push(`The oldest work has waited for ${formatSeconds(work.oldest_waiting_seconds ?? 0)}.`);
  }
  return { isWell: words.length === 0, words };
}

function isNearly(used: number | null | undefined, all: number | null | undefined): boolean {
  return used != null && all != null && all > 0 && used >= SCARCE_CONNECTIONS * all;
}
