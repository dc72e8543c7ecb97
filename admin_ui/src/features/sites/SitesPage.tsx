import { Button, Stack, Tabs } from "@mantine/core";
import { IconFilterOff, IconPlus, IconServer2 } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useMemo } from "react";
import { Link, useSearchParams } from "react-router";

import { useListing } from "@/api/paging";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { overviewQuery, useMay, useSlug } from "@/features/federations/federations";
import { InvitationsPanel } from "@/features/sites/InvitationsPanel";
import { PendingSites } from "@/features/sites/PendingSites";
import { SiteFilterBar } from "@/features/sites/SiteFilterBar";
import { SiteTable } from "@/features/sites/SiteTable";
import { filterSites, isFiltered, readFilters } from "@/features/sites/filters";
import { sitesListing } from "@/features/sites/sites";

export function SitesPage() {
  const slug = useSlug();
  const mayEnroll = useMay("enroll");
  const [search, setSearch] = useSearchParams();
  const tab = search.get("tab") === "invitations" ? "invitations" : "sites";
  return (
    <>
      <PageHeader
        title="Sites"
        text="The machines that keep the data and train on it. They ask the hub for work; the hub never calls them."
        actions={
          mayEnroll && (
            <Button component={Link} to={`/f/${slug}/sites/enrol`} leftSection={<IconPlus size={16} aria-hidden />}>
              Enrol a site
            </Button>
          )
        }
      />
      <Tabs
        value={tab}
        onChange={(next) => setSearch(next === "invitations" ? { tab: next } : {})}
        keepMounted={false}
      >
        <Tabs.List mb="lg">
          <Tabs.Tab value="sites">Sites</Tabs.Tab>
          <Tabs.Tab value="invitations">Invitations</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="sites">
          <AllSites slug={slug} />
        </Tabs.Panel>
        <Tabs.Panel value="invitations">
          <InvitationsPanel slug={slug} />
        </Tabs.Panel>
      </Tabs>
    </>
  );
}

function AllSites({ slug }: { slug: string }) {
  const [search] = useSearchParams();
  const mayEnroll = useMay("enroll");
  const overview = useQuery(overviewQuery(slug));
  const listed = useListing(sitesListing(slug));
  const filters = useMemo(() => readFilters(search), [search]);
  const shown = useMemo(() => filterSites(listed.items, filters), [listed.items, filters]);
  const pending = useMemo(() => listed.items.filter((site) => site.state === "pending"), [listed.items]);
  if (listed.error !== null && listed.items.length === 0) return <Problem error={listed.error} retry={listed.refetch} />;
  if (listed.isPending) return <Loading rows={9} />;
  if (listed.items.length === 0) return <NoSites slug={slug} mayEnroll={mayEnroll} />;
  return (
    <Stack gap="md">
      {listed.error !== null && <Problem error={listed.error} retry={listed.refetch} />}
      {filters.state !== "pending" && <PendingSites slug={slug} sites={pending} />}
      <SiteFilterBar filters={filters} sites={listed.items} counts={overview.data?.sites} />
      {shown.length > 0 && filters.state === "pending" ? (
        <PendingSites slug={slug} sites={shown} all />
      ) : shown.length > 0 ? (
        <SiteTable slug={slug} sites={shown} all={listed.items.length} isComplete={listed.isComplete} />
      ) : (
        <EmptyState
          icon={IconFilterOff}
          title={listed.isComplete ? "No site is like that" : "None so far"}
          action={
            isFiltered(filters) && (
              <Button component={Link} to={{ search: "" }} variant="default">
                Show all sites
              </Button>
            )
          }
        >
          {listed.isComplete ? "The filters leave none." : "More sites are on their way."}
        </EmptyState>
      )}
    </Stack>
  );
}

function NoSites({ slug, mayEnroll }: { slug: string; mayEnroll: boolean }) {
  return (
    <EmptyState
      icon={IconServer2}
      title="No site has come yet"
      {...(mayEnroll ? { command: `hansa invitation create --federation ${slug}` } : {})}
      action={
        mayEnroll && (
          <Button component={Link} to={`/f/${slug}/sites/enrol`} leftSection={<IconPlus size={16} aria-hidden />}>
            Enrol the first site
          </Button>
        )
      }
    >
      {mayEnroll
        ? "A site enrols with an invitation: a command that its operator pastes. Make one here or in a terminal."
        : "A site enrols with an invitation. The federation's owners and operators make them."}
    </EmptyState>
  );
}
