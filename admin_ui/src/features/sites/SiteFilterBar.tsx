import { Group, Select, TextInput } from "@mantine/core";
import { IconSearch, IconTag } from "@tabler/icons-react";
import { useMemo } from "react";
import { useSearchParams } from "react-router";

import type { Schema, Site } from "@/api/types";
import { SITE_STATES } from "@/components/states";
import type { FilterLink } from "@/features/sites/FilterLinks";
import { FilterLinks, replaced } from "@/features/sites/FilterLinks";
import type { SiteFilters } from "@/features/sites/filters";
import { labelsOf } from "@/features/sites/filters";

type SiteCounts = Schema<"SiteCounts">;

interface Props {
  filters: SiteFilters;
  sites: readonly Site[];
  counts: SiteCounts | undefined;
}

/** The filters of the list: they live in the address, so a filtered list can be sent to somebody. */
export function SiteFilterBar({ filters, sites, counts }: Props) {
  const [search, setSearch] = useSearchParams();
  const labels = useMemo(() => labelsOf(sites), [sites]);
  const change = (name: string, value: string | null) =>
    setSearch(replaced(search, { [name]: value }), { replace: true, flushSync: true, preventScrollReset: true });
  return (
    <Group justify="space-between" gap="sm">
      <FilterLinks label="Sites by state" links={stateLinks(search, filters, counts)} />
      <Group gap="xs" wrap="wrap">
        <TextInput
          aria-label="Part of the name"
          placeholder="Part of the name"
          leftSection={<IconSearch size={15} aria-hidden />}
          value={filters.q}
          onChange={(event) => change("q", event.currentTarget.value)}
          w={160}
        />
        {(labels.length > 0 || filters.label !== null) && (
          <Select
            aria-label="Label"
            placeholder="Any label"
            leftSection={<IconTag size={15} aria-hidden />}
            data={labels.map(({ label, sites: has }) => ({ value: label, label: `${label} (${has})` }))}
            value={filters.label}
            onChange={(label) => change("label", label)}
            clearable
            searchable
            nothingFoundMessage="No such label"
            w={180}
          />
        )}
      </Group>
    </Group>
  );
}

function stateLinks(search: URLSearchParams, filters: SiteFilters, counts: SiteCounts | undefined): FilterLink[] {
  function link(label: string, state: Site["state"] | null, online: boolean | null, count: number | undefined) {
    return {
      label,
      search: replaced(search, { state, online: online === null ? null : String(online) }),
      selected: filters.state === state && filters.online === online,
      ...(count === undefined ? {} : { count }),
    };
  }
  const all = counts && counts.pending + counts.active + counts.suspended + counts.revoked;
  return [
    link("All", null, null, all),
    link("Active", "active", null, counts?.active),
    link("Online", null, true, counts?.online),
    link("Offline", "active", false, counts && counts.active - counts.online),
    ...(["pending", "suspended", "revoked"] as const).map((state) =>
      link(capital(SITE_STATES[state].label), state, null, counts?.[state]),
    ),
  ].filter((it) => it.selected || it.count !== 0 || it.label === "All");
}

function capital(words: string): string {
  return words.charAt(0).toUpperCase() + words.slice(1);
}
