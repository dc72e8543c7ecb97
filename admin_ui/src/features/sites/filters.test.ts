import { describe, expect, it } from "vitest";

import type { Site } from "@/api/types";
import { filterSites, isFiltered, labelsOf, readFilters } from "@/features/sites/filters";

function site(name: string, some: Partial<Site>): Site {
  return {
    id: name, federation_id: "f", name, state: "active", state_reason: null, fingerprint: "", labels: {},
    hardware: null, sdk_version: "", online: true, last_seen_at: null, enrolled_at: "2026-05-01T12:00:00Z", ...some,
  };
}

const SITES = [
  site("oslo", { labels: { region: "nordics" } }),
  site("bergen", { labels: { region: "nordics", size: "small" }, online: false }),
  site("lyon", { state: "pending" }),
];

const names = (search: string) => filterSites(SITES, readFilters(new URLSearchParams(search))).map((it) => it.name);

describe("filters", () => {
  it.each([
    ["", ["oslo", "bergen", "lyon"]],
    ["state=pending", ["lyon"]],
    ["state=nonsense&online=perhaps", ["oslo", "bergen", "lyon"]],
    ["online=true", ["oslo"]], // one that awaits approval is there, but takes no part
    ["online=false&state=active", ["bergen"]],
    ["label=region%3Dnordics&q=Ber", ["bergen"]],
    ["q=paris", []],
  ])("leaves of %s", (search, left) => expect(names(search)).toEqual(left));

  it("knows whether any is set", () => {
    expect(isFiltered(readFilters(new URLSearchParams("tab=invitations")))).toBe(false);
    expect(isFiltered(readFilters(new URLSearchParams("q=o")))).toBe(true);
  });

  it("counts labels", () => {
    expect(labelsOf(SITES)).toEqual([
      { label: "region=nordics", sites: 2 },
      { label: "size=small", sites: 1 },
    ]);
  });
});
