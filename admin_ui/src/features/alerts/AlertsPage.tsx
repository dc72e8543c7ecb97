import { SegmentedControl } from "@mantine/core";
import { IconBellCheck } from "@tabler/icons-react";
import { useSearchParams } from "react-router";

import { useListing } from "@/api/paging";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { AlertList } from "@/features/alerts/AlertList";
import { alerts } from "@/features/alerts/alerts";
import { useSlug } from "@/features/federations/federations";

export function AlertsPage() {
  const slug = useSlug();
  const [search, setSearch] = useSearchParams();
  const onlyOpen = search.get("show") !== "all";
  const listed = useListing(alerts(slug, onlyOpen));
  return (
    <>
      <PageHeader
        title="Alerts"
        text="What needs somebody's attention. An alert about a condition ends with it; the others end when acknowledged."
        actions={
          <SegmentedControl
            value={onlyOpen ? "open" : "all"}
            onChange={(value) => setSearch(value === "all" ? { show: "all" } : {}, { replace: true })}
            data={[
              { label: "Open", value: "open" },
              { label: "All", value: "all" },
            ]}
          />
        }
      />
      {listed.error !== null && listed.items.length === 0 ? (
        <Problem error={listed.error} retry={listed.refetch} />
      ) : listed.isPending ? (
        <Loading rows={6} />
      ) : listed.items.length === 0 ? (
        <EmptyState
          icon={IconBellCheck}
          title={onlyOpen ? "Nothing needs attention" : "There has never been an alert"}
          command={'hansa channel add-webhook https://ops.example.org/hansa --event "alert.*"'}
        >
          Sites that go silent, runs that fail or wait, a store that fills up: it shows here. A channel tells you
          elsewhere too.
        </EmptyState>
      ) : (
        <AlertList slug={slug} alerts={listed.items} />
      )}
    </>
  );
}
