/** A run's receipts and its stored updates: what to ask for, and what can be done. */
import type { QueryClient } from "@tanstack/react-query";
import { queryOptions } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import { PAGE } from "@/api/paging";
import type { Schema } from "@/api/types";

export type Receipt = Schema<"Receipt">;
export type Update = Schema<"Update">;

const PER_PAGE = 40; // a receipt of a large cohort has megabytes

export interface ReceiptChain {
  receipts: Receipt[]; // the first one first
  last: string | undefined; // the cursor of the last page, where reading goes on
  before: number; // how many receipts come before that page
  isWhole: boolean; // nothing more is on its way
}

function chainKey(federation: string, runId: string) {
  return [...keys.domain(federation, "runs"), "receipts", runId] as const;
}

/**
 * All receipts of a run. They are never changed, so only the last page is read again, and what
 * came after it; holds that others change show when the page is opened the next time.
 */
export function receiptsQuery(federation: string, runId: string) {
  return queryOptions({
    queryKey: chainKey(federation, runId),
    queryFn: ({ client, signal }) => readChain(client, federation, runId, signal),
    gcTime: 0,
  });
}

async function readChain(
  client: QueryClient,
  federation: string,
  runId: string,
  signal: AbortSignal,
): Promise<ReceiptChain> {
  const queryKey = chainKey(federation, runId);
  const known = client.getQueryData<ReceiptChain>(queryKey);
  let receipts = known?.receipts.slice(0, known.before) ?? [];
  let last = known?.last;
  for (;;) {
    const page = await unwrap(
      api.GET("/v1/federations/{federation}/runs/{run_id}/receipts", {
        params: {
          path: { federation, run_id: runId },
          query: { limit: PER_PAGE, ...(last === undefined ? {} : { cursor: last }) },
        },
        signal,
      }),
    );
    const before = receipts.length;
    receipts = [...receipts, ...page.items];
    const next = page.next_cursor ?? undefined;
    const chain = { receipts, last, before, isWhole: next === undefined };
    if (next === undefined) return chain;
    if (known === undefined) client.setQueryData<ReceiptChain>(queryKey, chain);
    last = next;
  }
}

/** Keeps what a receipt names from being deleted, whatever the retention policy says. */
export async function holdReceipt(
  client: QueryClient,
  federation: string,
  runId: string,
  digest: string,
  reason: string,
): Promise<void> {
  const held = await unwrap(
    api.PUT("/v1/federations/{federation}/runs/{run_id}/receipts/{digest}/hold", {
      params: { path: { federation, run_id: runId, digest } },
      body: { reason },
    }),
  );
  replace(client, federation, runId, held);
}

/** Lets the retention policy decide again. */
export async function releaseReceipt(
  client: QueryClient,
  federation: string,
  runId: string,
  receipt: Receipt,
): Promise<void> {
  await unwrap(
    api.DELETE("/v1/federations/{federation}/runs/{run_id}/receipts/{digest}/hold", {
      params: { path: { federation, run_id: runId, digest: receipt.digest } },
    }),
  );
  replace(client, federation, runId, { ...receipt, hold: null });
}

function replace(client: QueryClient, federation: string, runId: string, receipt: Receipt): void {
  client.setQueryData<ReceiptChain>(chainKey(federation, runId), (chain) =>
    chain && { ...chain, receipts: chain.receipts.map((one) => (one.digest === receipt.digest ? receipt : one)) },
  );
}

/** A run's stored updates, oldest first, read from the hub only as far as they are asked for. */
export class UpdateReader {
  private readonly found = new Map<string, Update>();
  private cursor: string | undefined;
  private isOver = false;

  constructor(
    private readonly federation: string,
    private readonly runId: string,
    private readonly signal: AbortSignal,
  ) {}

  /** Returns the update that answered a task; undefined where the hub has none. */
  async of(taskId: string): Promise<Update | undefined> {
    while (!this.found.has(taskId) && !this.isOver) await this.read();
    return this.found.get(taskId);
  }

  private async read(): Promise<void> {
    const page = await unwrap(
      api.GET("/v1/federations/{federation}/runs/{run_id}/updates", {
        params: {
          path: { federation: this.federation, run_id: this.runId },
          query: { limit: PAGE, ...(this.cursor === undefined ? {} : { cursor: this.cursor }) },
        },
        signal: this.signal,
      }),
    );
    for (const update of page.items) this.found.set(update.task_id, update);
    this.cursor = page.next_cursor ?? undefined;
    this.isOver = this.cursor === undefined;
  }
}
