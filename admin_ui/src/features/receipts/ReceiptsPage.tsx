/** A run's receipts: what the hub signed of each round, and whether it holds. */
import { Stack } from "@mantine/core";
import { IconReceipt } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { useParams, useSearchParams } from "react-router";

import type { Run } from "@/api/types";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import { QueryView } from "@/components/QueryView";
import { StateBadge } from "@/components/StateBadge";
import { RUN_STATES } from "@/components/states";
import { useSlug } from "@/features/federations/federations";
import { ReceiptDrawer } from "@/features/receipts/ReceiptDrawer";
import { ReceiptTable } from "@/features/receipts/ReceiptTable";
import { VerifyPanel } from "@/features/receipts/VerifyPanel";
import type { Receipt } from "@/features/receipts/receipts";
import { receiptsQuery } from "@/features/receipts/receipts";
import { runQuery } from "@/features/runs/runs";

export function ReceiptsPage() {
  const slug = useSlug();
  const { runId = "" } = useParams();
  const run = useQuery(runQuery(slug, runId));
  return (
    <QueryView query={run} rows={8}>
      {(data) => <Receipts slug={slug} run={data} />}
    </QueryView>
  );
}

function Receipts({ slug, run }: { slug: string; run: Run }) {
  const [search, setSearch] = useSearchParams();
  const query = useQuery(receiptsQuery(slug, run.id));
  const receipts = query.data?.receipts;
  const selected = useMemo(() => selectedIn(search, receipts ?? []), [search, receipts]);

  function select(number: number | undefined): void {
    const next = new URLSearchParams(search);
    next.delete("round");
    next.delete("receipt");
    if (number !== undefined) next.set("receipt", String(number));
    setSearch(next, { preventScrollReset: true });
  }

  return (
    <>
      <PageHeader
        title={`Receipts of ${run.name}`}
        badge={<StateBadge look={RUN_STATES[run.state]} />}
        text="The hub's signed account of every closed round and of the run's end, each chained to the one before."
        parents={[
          { label: "Runs", to: `/f/${slug}/runs` },
          { label: run.name, to: `/f/${slug}/runs/${run.id}` },
        ]}
      />
      <QueryView query={query} rows={8}>
        {(chain) =>
          chain.receipts.length === 0 ? (
            <EmptyState icon={IconReceipt} title="No receipts yet" command={`hansa run watch ${run.id} --federation ${slug}`}>
              The first one comes with the first closed round. This page shows it at once.
            </EmptyState>
          ) : (
            <Stack gap="md">
              <VerifyPanel slug={slug} run={run} receipts={chain.receipts.length} key={run.id} />
              <ReceiptTable receipts={chain.receipts} isWhole={chain.isWhole} />
            </Stack>
          )
        }
      </QueryView>
      {selected !== undefined && receipts !== undefined && (
        <ReceiptDrawer slug={slug} run={run} receipt={selected} most={receipts.length} select={select} />
      )}
    </>
  );
}

/** Returns the receipt that the address names: by its number, or the last one of a round. */
function selectedIn(search: URLSearchParams, receipts: readonly Receipt[]): Receipt | undefined {
  const number = Number(search.get("receipt"));
  if (number > 0) return receipts.find((one) => one.number === number);
  const round = Number(search.get("round"));
  return round > 0 ? receipts.findLast((one) => one.round_number === round) : undefined;
}
