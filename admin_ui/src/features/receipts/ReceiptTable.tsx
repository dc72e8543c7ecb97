import { Text, Tooltip } from "@mantine/core";
import { IconLock } from "@tabler/icons-react";
import { Link } from "react-router";

import type { Column } from "@/components/DataTable";
import { DataTable } from "@/components/DataTable";
import { StateBadge } from "@/components/StateBadge";
import { ROUND_STATES, RUN_STATES } from "@/components/states";
import { Ago, Digest } from "@/components/values";
import type { ReceiptBody } from "@/features/receipts/body";
import { readBody, usedUpdates } from "@/features/receipts/body";
import type { Receipt } from "@/features/receipts/receipts";
import { titleOf } from "@/features/receipts/tell";
import { plural } from "@/format/words";

const read = new WeakMap<Receipt, ReceiptBody | null>(); // bodies are large: each is read once, when it is shown

/** Returns what a receipt says; null where it cannot be read. */
export function bodyOf(receipt: Receipt): ReceiptBody | null {
  const known = read.get(receipt);
  if (known !== undefined) return known;
  let body: ReceiptBody | null = null;
  try {
    body = readBody(receipt.body);
  } catch {
    // The verification says what is wrong with it.
  }
  read.set(receipt, body);
  return body;
}

const columns: Column<Receipt>[] = [
  {
    key: "number",
    header: "Number",
    width: "76px",
    sortBy: (receipt) => receipt.number,
    cell: (receipt) => <span className="numbers">{receipt.number}</span>,
  },
  {
    key: "about",
    header: "About",
    isTitle: true,
    width: "minmax(0, 1.3fr)",
    cell: (receipt) => {
      const body = bodyOf(receipt);
      return (
        <Text component={Link} to={`?receipt=${receipt.number}`} preventScrollReset size="sm" fw={560} c="inherit">
          {body === null ? "It cannot be read" : titleOf(body)}
        </Text>
      );
    },
  },
  { key: "state", header: "State", width: "130px", cell: (receipt) => <State body={bodyOf(receipt)} /> },
  { key: "sites", header: "Sites", width: "minmax(0, 2fr)", cell: (receipt) => <Sites body={bodyOf(receipt)} /> },
  {
    key: "held",
    header: "Held",
    width: "minmax(0, 1fr)",
    cell: ({ hold }) =>
      hold === null ? (
        <Text size="sm" c="dimmed">
          –
        </Text>
      ) : (
        <Tooltip label={`${hold.reason} (${hold.held_by})`}>
          <Text size="sm" truncate>
            <IconLock size={13} aria-hidden style={{ verticalAlign: "-2px" }} /> {hold.reason}
          </Text>
        </Tooltip>
      ),
  },
  { key: "digest", header: "Digest", width: "130px", cell: (receipt) => <Digest value={receipt.digest} /> },
  { key: "issued", header: "Issued", width: "110px", align: "end", cell: (receipt) => <Ago at={receipt.created_at} /> },
];

export function ReceiptTable({ receipts, isWhole }: { receipts: readonly Receipt[]; isWhole: boolean }) {
  return (
    <DataTable
      label="Receipts"
      rows={receipts}
      columns={columns}
      rowKey={(receipt) => receipt.digest}
      href={(receipt) => `?receipt=${receipt.number}`}
      sorting={{ key: "number", descending: true }}
      footer={`${plural(receipts.length, "receipt")}${isWhole ? "" : ", more are on their way"}`}
    />
  );
}

function State({ body }: { body: ReceiptBody | null }) {
  if (body?.round != null) return <StateBadge look={ROUND_STATES[body.round.state]} />;
  if (body?.end != null) return <StateBadge look={RUN_STATES[body.end.state]} />;
  return <span>–</span>;
}

function Sites({ body }: { body: ReceiptBody | null }) {
  const round = body?.round ?? null;
  if (round === null) {
    return (
      <Text size="sm" c="dimmed">
        {body?.end == null ? "–" : `after ${plural(body.end.rounds_completed, "round")}`}
      </Text>
    );
  }
  const done = round.cohort.filter((entry) => entry.outcome === "done").length;
  const told = [`${done} of ${round.cohort.length} answered`];
  if (round.kind === "train") told.push(`${usedUpdates(round).length} used`);
  if (round.excluded.length > 0) told.push(`${round.excluded.length} not asked`);
  return (
    <Text size="sm" className="numbers">
      {told.join(", ")}
      {round.kind === "evaluate" && <Text span c="dimmed" inherit>{" · evaluation"}</Text>}
      {round.secure !== null && <Text span c="dimmed" inherit>{" · secure"}</Text>}
    </Text>
  );
}
