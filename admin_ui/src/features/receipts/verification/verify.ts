/** A run verified in this browser: its state, its receipts and its updates, read from the hub. */
import type { QueryClient } from "@tanstack/react-query";

import { api, unwrap } from "@/api/client";
import { UpdateReader, receiptsQuery } from "@/features/receipts/receipts";
import type { Found } from "@/features/receipts/verification/ledger";
import type { Trust } from "@/features/receipts/verification/trust";
import { ReceiptWalk } from "@/features/receipts/verification/walk";

const BREATH_MS = 40; // of work before the page may draw again

export interface Report extends Found {
  receipts: number;
  signatures: number; // of receipts and updates that were looked at
  head: string | null; // the last receipt's digest, which stands for all
  hubKeys: string[]; // that signed
  shownKey: string; // that the hub shows today
}

export interface Progress {
  receipts: number;
  all: number;
  signatures: number;
}

/** Checks a run's receipts. Throws what requests throw; what is wrong with receipts is in the report. */
export async function verifyRun(
  client: QueryClient,
  federation: string,
  runId: string,
  trust: Trust,
  tell: (progress: Progress) => void,
  signal: AbortSignal,
): Promise<Report> {
  const path = { federation, run_id: runId };
  // First the run and then its receipts: a run that has ended by then has the receipt of its end.
  const run = await unwrap(api.GET("/v1/federations/{federation}/runs/{run_id}", { params: { path }, signal }));
  const hub = await unwrap(api.GET("/v1/hub", { signal }));
  const receipts = receiptsQuery(federation, runId);
  await client.cancelQueries({ queryKey: receipts.queryKey }); // one that began before would come too early
  const chain = await client.query({ ...receipts, staleTime: 0 });
  const walk = new ReceiptWalk({ runId, runState: run.state, hubKey: hub.fingerprint });
  const updates = new UpdateReader(federation, runId, signal);
  let signatures = 0;
  let drawn = performance.now();

  async function breathe(): Promise<void> {
    if (performance.now() - drawn < BREATH_MS) return;
    tell({ receipts: walk.count, all: chain.receipts.length, signatures });
    await new Promise((resume) => setTimeout(resume));
    signal.throwIfAborted();
    drawn = performance.now();
  }

  for (const receipt of chain.receipts) {
    const body = walk.open(receipt);
    signatures += 1;
    if (body === null) continue;
    for (const update of body.round?.updates ?? []) {
      const stored = await updates.of(update.task_id);
      if (body.round !== null) walk.update(body, body.round, update, stored);
      if (stored !== undefined) signatures += 1;
      await breathe();
    }
    walk.close(body);
    await breathe();
  }
  walk.finish(trust);
  const { holds, wrong, unchecked } = walk.ledger;
  return {
    receipts: walk.count,
    signatures,
    head: walk.head,
    hubKeys: [...walk.hubKeys],
    shownKey: hub.fingerprint,
    holds,
    wrong,
    unchecked,
  };
}
