/** A log as its readers see it: filters, entries, the check of its chain, its export. */
import { Button, Group, Stack, Text } from "@mantine/core";
import { IconHistory } from "@tabler/icons-react";
import { Link, useSearchParams } from "react-router";

import { useListing } from "@/api/paging";
import type { Column } from "@/components/DataTable";
import { DataTable } from "@/components/DataTable";
import { EmptyState } from "@/components/EmptyState";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { Ago } from "@/components/values";
import { AuditFilters } from "@/features/audit/AuditFilters";
import { EntryDetail } from "@/features/audit/EntryDetail";
import { VerifyLog } from "@/features/audit/VerifyLog";
import type { AuditEntry, Log } from "@/features/audit/audit";
import { auditCommand, entries, filterIn } from "@/features/audit/audit";
import { actorOf, deedOf } from "@/features/audit/sentences";
import { formatCount } from "@/format/sizes";
import { plural } from "@/format/words";

export function AuditLog({ log }: { log: Log }) {
  const [search] = useSearchParams();
  const filter = filterIn(search);
  const listed = useListing(entries(log, filter), { all: false });
  if (listed.error !== null && listed.items.length === 0) {
    return <Problem error={listed.error} retry={listed.refetch} />;
  }
  return (
    <>
      <VerifyLog log={log} key={log} />
      <Stack gap="md">
        <AuditFilters of={log === null ? "hub" : "federation"} filter={filter} />
        {listed.isPending ? (
          <Loading rows={8} />
        ) : listed.items.length === 0 ? (
          <EmptyState icon={IconHistory} title="No such entries" command={auditCommand(log, "list")}>
            Nobody did anything of this kind in this time. Take a filter away to see more.
          </EmptyState>
        ) : (
          <Entries
            items={listed.items}
            footer={
              <Group justify="space-between">
                <span>
                  {plural(listed.items.length, "entry", "entries")}
                  {listed.isComplete ? ", all there are" : " shown, the newest"}
                </span>
                {!listed.isComplete && (
                  <Button size="xs" variant="default" onClick={listed.more} loading={listed.isFetchingMore}>
                    Older entries
                  </Button>
                )}
              </Group>
            }
          />
        )}
      </Stack>
    </>
  );
}

function Entries({ items, footer }: { items: readonly AuditEntry[]; footer: React.ReactNode }) {
  const [search] = useSearchParams();
  const opened = Number(search.get("entry"));

  function searchOf(entry: AuditEntry): string {
    const next = new URLSearchParams(search);
    if (entry.number === opened) next.delete("entry");
    else next.set("entry", String(entry.number));
    return `?${next.toString()}`;
  }

  const columns: Column<AuditEntry>[] = [
    {
      key: "number",
      header: "Entry",
      width: "58px",
      cell: (entry) => (
        <Text size="sm" c="dimmed" className="numbers">
          {formatCount(entry.number)}
        </Text>
      ),
    },
    {
      key: "deed",
      header: "Who did what",
      isTitle: true,
      width: "minmax(0, 4fr)",
      cell: (entry) => (
        <Text
          component={Link}
          to={searchOf(entry)}
          preventScrollReset
          size="sm"
          c="inherit"
          aria-expanded={entry.number === opened}
        >
          <Text span fw={600} inherit>
            {actorOf(entry)}
          </Text>{" "}
          <Text span fw={400} inherit>
            {deedOf(entry)}
          </Text>
        </Text>
      ),
    },
    {
      key: "action",
      header: "Action",
      width: "minmax(0, 1.2fr)",
      cell: (entry) => <span className="mono">{entry.action}</span>,
    },
    {
      key: "from",
      header: "From",
      width: "minmax(0, 0.9fr)",
      cell: (entry) => <span className="mono">{entry.actor.address ?? "–"}</span>,
    },
    { key: "at", header: "When", width: "110px", align: "end", cell: (entry) => <Ago at={entry.at} /> },
  ];
  return (
    <DataTable
      label="Entries, newest first"
      rows={items}
      columns={columns}
      rowKey={(entry) => String(entry.number)}
      href={searchOf}
      detail={(entry) => (entry.number === opened ? <EntryDetail entry={entry} /> : null)}
      footer={footer}
    />
  );
}
