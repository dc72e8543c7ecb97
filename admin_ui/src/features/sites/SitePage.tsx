import { Alert, Grid, Stack, Text } from "@mantine/core";
import { IconBan, IconPlayerPause } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useParams } from "react-router";

import type { Site } from "@/api/types";
import type { Figure } from "@/components/Facts";
import { Figures } from "@/components/Facts";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { QueryView } from "@/components/QueryView";
import { StateBadge } from "@/components/StateBadge";
import { SITE_STATES } from "@/components/states";
import { Ago, Bytes } from "@/components/values";
import { useMay, useSlug } from "@/features/federations/federations";
import { ApproveForm } from "@/features/sites/ApproveForm";
import { LabelsPanel } from "@/features/sites/LabelsPanel";
import { Presence } from "@/features/sites/Presence";
import { SiteActions } from "@/features/sites/SiteActions";
import { SiteEvents } from "@/features/sites/SiteEvents";
import { HardwarePanel, IdentityPanel, PolicyPanel } from "@/features/sites/SiteFacts";
import { SiteHistory } from "@/features/sites/SiteHistory";
import { formatHardware } from "@/features/sites/hardware";
import { siteQuery } from "@/features/sites/sites";
import { formatCount, formatShare } from "@/format/sizes";

export function SitePage() {
  const slug = useSlug();
  const { siteId = "" } = useParams();
  const site = useQuery(siteQuery(slug, siteId));
  return (
    <QueryView query={site} rows={9}>
      {(data) => <Shown slug={slug} site={data} />}
    </QueryView>
  );
}

function Shown({ slug, site }: { slug: string; site: Site }) {
  const mayEnroll = useMay("enroll");
  return (
    <>
      <PageHeader
        title={site.name}
        parents={[{ label: "Sites", to: `/f/${slug}/sites` }]}
        badge={<StateBadge look={SITE_STATES[site.state]} size="lg" />}
        text={
          <>
            <Presence site={site} isAlone />
            {site.hardware !== null && ` · ${formatHardware(site.hardware)}`}
          </>
        }
        actions={mayEnroll && <SiteActions slug={slug} site={site} />}
      />
      <Stack gap="lg">
        <Standing slug={slug} site={site} mayEnroll={mayEnroll} />
        <Figures figures={figures(site)} />
        <Grid gap="lg">
          <Grid.Col span={{ base: 12, lg: 8 }}>
            <SiteHistory slug={slug} site={site} />
          </Grid.Col>
          <Grid.Col span={{ base: 12, lg: 4 }}>
            <Stack gap="md">
              <LabelsPanel slug={slug} site={site} />
              <PolicyPanel site={site} />
              <SiteEvents slug={slug} siteId={site.id} />
              <IdentityPanel slug={slug} site={site} />
              <HardwarePanel site={site} />
            </Stack>
          </Grid.Col>
        </Grid>
      </Stack>
    </>
  );
}

/** What keeps a site from taking part, and what is to do about it; nothing of one that may. */
function Standing({ slug, site, mayEnroll }: { slug: string; site: Site; mayEnroll: boolean }) {
  const why = site.state_reason === null ? "No reason was given." : `The reason: ${site.state_reason}`;
  switch (site.state) {
    case "pending":
      return (
        <Panel title="It awaits approval">
          {mayEnroll ? (
            <ApproveForm slug={slug} site={site} />
          ) : (
            <Text size="sm" c="dimmed">
              The federation&apos;s owners and operators approve sites.
            </Text>
          )}
        </Panel>
      );
    case "suspended":
      return (
        <Alert color="orange" icon={<IconPlayerPause size={18} />} title="Kept out until it is reinstated">
          {why}
        </Alert>
      );
    case "revoked":
      return (
        <Alert color="gray" icon={<IconBan size={18} />} title="Refused for ever">
          {why}
        </Alert>
      );
    case "active":
      return null;
  }
}

function figures({ record }: Site): Figure[] {
  if (record == null) return [];
  const decided = record.done + record.late + record.failed;
  return [
    { name: "Rounds contributed", value: formatCount(record.rounds), note: "completed, its update counted" },
    {
      name: "Reliability",
      value: decided === 0 ? "–" : formatShare(record.done, decided),
      note: `${formatCount(record.done)} done, ${formatCount(record.late)} late, ${formatCount(record.failed)} failed`,
    },
    {
      name: "Tasks",
      value: formatCount(record.asked),
      note: record.cancelled > 0 ? `${formatCount(record.cancelled)} cancelled` : "asked of it so far",
    },
    {
      name: "Sent to the hub",
      value: <Bytes value={record.bytes_up} />,
      note: record.last_done_at == null ? "nothing yet" : <>last <Ago at={record.last_done_at} /></>,
    },
  ];
}
