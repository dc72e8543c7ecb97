/** Which sites are shown: the filters in the address, and what they leave. */
import type { Site } from "@/api/types";
import { writtenLabels } from "@/features/sites/labels";

export interface SiteFilters {
  state: Site["state"] | null;
  online: boolean | null;
  label: string | null; // "key=value"
  q: string; // a part of the name
}

const STATES: readonly Site["state"][] = ["pending", "active", "suspended", "revoked"];

/** Reads the filters from an address; what makes no sense there counts as not said. */
export function readFilters(search: URLSearchParams): SiteFilters {
  const online = search.get("online");
  return {
    state: STATES.find((state) => state === search.get("state")) ?? null,
    online: online === "true" ? true : online === "false" ? false : null,
    label: search.get("label") || null,
    q: search.get("q") ?? "",
  };
}

/** Returns whether any filter is set. */
export function isFiltered(filters: SiteFilters): boolean {
  return filters.state !== null || filters.online !== null || filters.label !== null || filters.q !== "";
}

/** Returns the sites that all filters leave, in their order. */
export function filterSites(sites: readonly Site[], filters: SiteFilters): Site[] {
  const q = filters.q.trim().toLowerCase();
  return sites.filter(
    (site) =>
      (filters.state === null || site.state === filters.state) &&
      (filters.online === null || isOnline(site) === filters.online) &&
      (filters.label === null || writtenLabels(site.labels).includes(filters.label)) &&
      (q === "" || site.name.includes(q)),
  );
}

/** Whether a site is there and may take part: what the hub counts as online. */
export function isOnline(site: Site): boolean {
  return site.online && site.state === "active";
}

/** Returns every label that some site has, with how many sites have it, by name. */
export function labelsOf(sites: readonly Site[]): { label: string; sites: number }[] {
  const counts = new Map<string, number>();
  for (const site of sites) {
    for (const label of writtenLabels(site.labels)) counts.set(label, (counts.get(label) ?? 0) + 1);
  }
  return [...counts]
    .map(([label, count]) => ({ label, sites: count }))
    .toSorted((one, other) => one.label.localeCompare(other.label, undefined, { numeric: true }));
}
