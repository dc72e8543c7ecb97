import { Anchor, Text } from "@mantine/core";
import { Link } from "react-router";

import type { Site } from "@/api/types";
import type { Column } from "@/components/DataTable";
import { DataTable } from "@/components/DataTable";
import { StateBadge } from "@/components/StateBadge";
import { SITE_STATES } from "@/components/states";
import { LabelChips } from "@/features/sites/LabelChips";
import { Presence } from "@/features/sites/Presence";
import { Reliability } from "@/features/sites/Reliability";
import { isOnline } from "@/features/sites/filters";
import { formatHardware } from "@/features/sites/hardware";
import { formatCount } from "@/format/sizes";
import { plural } from "@/format/words";

interface Props {
  slug: string;
  sites: readonly Site[]; // those that the filters leave
  all: number;
  isComplete: boolean;
}

export function SiteTable({ slug, sites, all, isComplete }: Props) {
  const left = sites.length === all ? plural(all, "site") : `${formatCount(sites.length)} of ${plural(all, "site")}`;
  return (
    <DataTable
      label="Sites"
      rows={sites}
      columns={columns(slug)}
      rowKey={(site) => site.id}
      href={(site) => `/f/${slug}/sites/${site.id}`}
      sorting={{ key: "name", descending: false }}
      footer={isComplete ? left : `${left}, and more on their way`}
    />
  );
}

function columns(slug: string): Column<Site>[] {
  return [
    {
      key: "name",
      header: "Site",
      isTitle: true,
      width: "minmax(110px, 1fr)",
      sortBy: (site) => site.name,
      cell: (site) => (
        <Anchor component={Link} to={`/f/${slug}/sites/${site.id}`} inherit c="var(--mantine-color-text)">
          {site.name}
        </Anchor>
      ),
    },
    {
      key: "state",
      header: "State",
      width: "132px",
      sortBy: (site) => SITE_STATES[site.state].label,
      cell: (site) => <StateBadge look={SITE_STATES[site.state]} />,
    },
    {
      key: "seen",
      header: "Last seen",
      width: "108px",
      sortBy: (site) => (isOnline(site) ? 0 : site.last_seen_at === null ? null : -Date.parse(site.last_seen_at)),
      cell: (site) => <Presence site={site} />,
    },
    {
      key: "labels",
      header: "Labels",
      width: "minmax(130px, 1.7fr)",
      cell: (site) => <LabelChips labels={site.labels} />,
    },
    {
      key: "hardware",
      header: "Hardware",
      width: "minmax(120px, 1.1fr)",
      sortBy: (site) => (site.hardware === null ? null : (site.hardware.gpus?.length ?? 0) * 1e6 + site.hardware.cpus),
      cell: (site) => (
        <Text span size="sm" c="dimmed">
          {site.hardware === null ? "–" : formatHardware(site.hardware)}
        </Text>
      ),
    },
    {
      key: "version",
      header: "Version",
      width: "66px",
      sortBy: (site) => site.sdk_version,
      cell: (site) => <span className="numbers">{site.sdk_version || "–"}</span>,
    },
    {
      key: "rounds",
      header: "Rounds",
      width: "70px",
      align: "end",
      sortBy: (site) => site.record?.rounds ?? null,
      cell: (site) => (site.record ? formatCount(site.record.rounds) : "–"),
    },
    {
      key: "reliability",
      header: "Reliability",
      width: "118px",
      align: "end",
      sortBy: (site) => site.record?.reliability ?? null,
      cell: (site) => <Reliability record={site.record} />,
    },
  ];
}
