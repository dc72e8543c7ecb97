import { Anchor, Button, Grid, Group, Progress, Stack, Text } from "@mantine/core";
import { IconActivity, IconPlus, IconServer2 } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import type { Run } from "@/api/types";
import { EmptyState } from "@/components/EmptyState";
import { Figures } from "@/components/Facts";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { QueryView } from "@/components/QueryView";
import { StateBadge } from "@/components/StateBadge";
import { RUN_STATES } from "@/components/states";
import { Ago } from "@/components/values";
import { AlertList } from "@/features/alerts/AlertList";
import { openAlertsQuery } from "@/features/alerts/alerts";
import classes from "@/features/federations/FederationPage.module.css";
import { activityQuery, isDetail, pathOf, subjectOf, titleOf } from "@/features/federations/activity";
import type { Overview } from "@/features/federations/federations";
import { overviewQuery, useMay, useSlug } from "@/features/federations/federations";
import { liveRunsQuery, runNamesQuery } from "@/features/federations/liveRuns";
import { formatCount, formatShare } from "@/format/sizes";
import { plural } from "@/format/words";

export function FederationPage() {
  const slug = useSlug();
  const overview = useQuery(overviewQuery(slug));
  const mayEnroll = useMay("enroll");
  const mayRun = useMay("run");
  return (
    <QueryView query={overview} rows={8}>
      {(data) => (
        <>
          <PageHeader
            title={data.federation.name}
            text={data.federation.description || undefined}
            actions={
              <>
                {mayEnroll && (
                  <Button
                    component={Link}
                    to={`/f/${slug}/sites/enrol`}
                    variant={hasSites(data) ? "default" : "filled"}
                    leftSection={<IconServer2 size={16} aria-hidden />}
                  >
                    Enrol a site
                  </Button>
                )}
                {mayRun && hasSites(data) && (
                  <Button component={Link} to={`/f/${slug}/runs/new`} leftSection={<IconPlus size={16} aria-hidden />}>
                    New run
                  </Button>
                )}
              </>
            }
          />
          <Stack gap="lg">
            <Figures figures={figures(data)} />
            {hasSites(data) ? null : <FirstSteps slug={slug} mayEnroll={mayEnroll} />}
            <Grid gap="lg">
              <Grid.Col span={{ base: 12, lg: 7 }}>
                <Stack gap="lg">
                  <LiveRuns slug={slug} />
                  <Attention slug={slug} overview={data} />
                </Stack>
              </Grid.Col>
              <Grid.Col span={{ base: 12, lg: 5 }}>
                <Activity slug={slug} />
              </Grid.Col>
            </Grid>
          </Stack>
        </>
      )}
    </QueryView>
  );
}

function hasSites(overview: Overview): boolean {
  return overview.sites.active + overview.sites.pending + overview.sites.suspended > 0;
}

function figures({ sites, runs, open_alerts, rounds_completed, worst_alert }: Overview) {
  const waiting = runs.queued + runs.paused;
  return [
    {
      name: "Sites online",
      value: `${sites.online} of ${sites.active}`,
      note: sites.active === 0 ? "none is active" : `${formatShare(sites.online, sites.active)} of the active`,
    },
    {
      name: "Runs now",
      value: formatCount(runs.running),
      note: waiting > 0 ? `${formatCount(waiting)} waiting or paused` : `${formatCount(runs.completed)} completed`,
    },
    { name: "Rounds completed", value: formatCount(rounds_completed), note: "in all runs" },
    {
      name: "Open alerts",
      value: formatCount(open_alerts),
      note: open_alerts === 0 ? "nothing needs attention" : `the worst is ${worst_alert ?? "unknown"}`,
      ...(open_alerts > 0 ? { colour: worst_alert === "critical" ? "red.light-color" : "orange.light-color" } : {}),
    },
  ].map(({ colour, ...figure }) => ({
    ...figure,
    ...(colour === undefined ? {} : { colour: `var(--mantine-color-${colour.replace(".", "-")})` }),
  }));
}

function FirstSteps({ slug, mayEnroll }: { slug: string; mayEnroll: boolean }) {
  return (
    <EmptyState
      icon={IconServer2}
      title="Begin with the sites"
      command={`hansa invitation create --federation ${slug}`}
      action={
        mayEnroll ? (
          <Button component={Link} to={`/f/${slug}/sites/enrol`}>
            Enrol the first site
          </Button>
        ) : null
      }
    >
      Nobody is here yet. An invitation is a command that a site&apos;s operator pastes; the site then shows up here by
      itself.
    </EmptyState>
  );
}

function LiveRuns({ slug }: { slug: string }) {
  const runs = useQuery(liveRunsQuery(slug));
  return (
    <Panel
      title="Runs now"
      aside={
        <Anchor component={Link} to={`/f/${slug}/runs`} size="sm">
          All runs
        </Anchor>
      }
    >
      <QueryView query={runs}>
        {({ items }) =>
          items.length === 0 ? (
            <Text size="sm" c="dimmed">
              Nothing runs and nothing waits.
            </Text>
          ) : (
            <Stack gap="md">
              {items.map((run) => (
                <LiveRun key={run.id} slug={slug} run={run} />
              ))}
            </Stack>
          )
        }
      </QueryView>
    </Panel>
  );
}

function LiveRun({ slug, run }: { slug: string; run: Run }) {
  const planned = Math.max(run.plan.rounds, 1);
  return (
    <div>
      <Group justify="space-between" gap="xs" mb={5}>
        <Group gap="xs">
          <Anchor component={Link} to={`/f/${slug}/runs/${run.id}`} fw={560} size="sm">
            {run.name}
          </Anchor>
          <StateBadge look={RUN_STATES[run.state]} />
        </Group>
        <Text size="sm" c="dimmed" className="numbers">
          {formatCount(run.rounds_completed)} of {plural(run.plan.rounds, "round")}
        </Text>
      </Group>
      <Progress
        value={(100 * run.rounds_completed) / planned}
        color={RUN_STATES[run.state].colour}
        aria-label={`${run.name}: ${run.rounds_completed} of ${run.plan.rounds} rounds`}
      />
      {run.state_reason && (
        <Text size="xs" c="dimmed" mt={4}>
          {run.state_reason}
        </Text>
      )}
    </div>
  );
}

function Attention({ slug, overview }: { slug: string; overview: Overview }) {
  const alerts = useQuery(openAlertsQuery(slug));
  const { pending } = overview.sites;
  return (
    <Panel
      title="Needs attention"
      aside={
        <Anchor component={Link} to={`/f/${slug}/alerts`} size="sm">
          All alerts
        </Anchor>
      }
    >
      <Stack gap="sm">
        {pending > 0 && (
          <Group justify="space-between" gap="xs">
            <Text size="sm">{plural(pending, "site awaits approval", "sites await approval")}.</Text>
            <Anchor component={Link} to={`/f/${slug}/sites?state=pending`} size="sm">
              Compare the fingerprints
            </Anchor>
          </Group>
        )}
        <QueryView query={alerts} rows={2}>
          {({ items }) =>
            items.length > 0 ? (
              <AlertList slug={slug} alerts={items} />
            ) : pending === 0 ? (
              <Text size="sm" c="dimmed">
                All is well.
              </Text>
            ) : null
          }
        </QueryView>
      </Stack>
    </Panel>
  );
}

function Activity({ slug }: { slug: string }) {
  const activity = useQuery(activityQuery(slug));
  const names = useQuery(runNamesQuery(slug)).data;
  return (
    <Panel title="Activity">
      <QueryView query={activity} rows={8}>
        {({ items }) => {
          const shown = items.filter((event) => !isDetail(event)).slice(0, 18);
          if (shown.length === 0) {
            return (
              <Text size="sm" c="dimmed">
                <IconActivity size={15} aria-hidden /> Nothing has happened yet.
              </Text>
            );
          }
          return (
            <ol className={classes.activity}>
              {shown.map((event) => {
                const path = pathOf(event);
                return (
                  <li key={event.id}>
                    <span>
                      {path === null ? (
                        titleOf(event)
                      ) : (
                        <Anchor component={Link} to={`/f/${slug}/${path}`} inherit>
                          {titleOf(event)}
                        </Anchor>
                      )}
                      <Text span size="xs" c="dimmed" className={classes.subject ?? ""}>
                        {[names?.get(event.run_id ?? ""), subjectOf(event)].filter(Boolean).join(" · ")}
                      </Text>
                    </span>
                    <Text span size="xs" c="dimmed" className={classes.ago ?? ""}>
                      <Ago at={event.at} />
                    </Text>
                  </li>
                );
              })}
            </ol>
          );
        }}
      </QueryView>
    </Panel>
  );
}
