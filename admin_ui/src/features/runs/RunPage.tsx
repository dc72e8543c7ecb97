/** A run as it lives: what it waits for, its rounds, its metrics, and every site's part. */
import { Anchor, Grid, Stack, Tabs, Text } from "@mantine/core";
import { IconHourglass } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useCallback } from "react";
import { Link, useParams, useSearchParams } from "react-router";

import type { Run } from "@/api/types";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { QueryView } from "@/components/QueryView";
import { StateBadge } from "@/components/StateBadge";
import { RUN_STATES } from "@/components/states";
import { useSlug } from "@/features/federations/federations";
import { CurvesPanel } from "@/features/runs/CurvesPanel";
import { PlanPanel } from "@/features/runs/PlanPanel";
import { RoundDrawer } from "@/features/runs/RoundDrawer";
import { RoundPanel } from "@/features/runs/RoundPanel";
import { RoundsPanel } from "@/features/runs/RoundsPanel";
import { RoundsTable } from "@/features/runs/RoundsTable";
import { RunActions } from "@/features/runs/RunActions";
import { RunFailures } from "@/features/runs/RunFailures";
import { RunFigures } from "@/features/runs/RunFigures";
import { openRound } from "@/features/runs/rounds";
import { roundsQuery, runQuery } from "@/features/runs/runs";
import { plural } from "@/format/words";

export function RunPage() {
  const slug = useSlug();
  const { runId = "" } = useParams();
  const run = useQuery(runQuery(slug, runId));
  return (
    <QueryView query={run} rows={10}>
      {(data) => <RunView slug={slug} run={data} />}
    </QueryView>
  );
}

function RunView({ slug, run }: { slug: string; run: Run }) {
  const [search, setSearch] = useSearchParams();
  const history = useQuery(roundsQuery(slug, run.id));
  const rounds = history.data?.rounds ?? [];
  const selected = numberIn(search.get("round"));
  const current = openRound(rounds) ?? rounds[0];

  function withParam(name: string, value: string | undefined): URLSearchParams {
    const next = new URLSearchParams(search);
    next.delete(name);
    if (value !== undefined) next.set(name, value);
    return next;
  }
  const hrefOf = (number: number) => `?${withParam("round", String(number)).toString()}`;
  const select = useCallback(
    (number: number | undefined) =>
      setSearch(
        (before) => {
          const next = new URLSearchParams(before);
          next.delete("round");
          if (number !== undefined) next.set("round", String(number));
          return next;
        },
        { preventScrollReset: true },
      ),
    [setSearch],
  );
  const choose = (tab: string | null) =>
    setSearch(withParam("tab", tab === "plan" ? "plan" : undefined), { replace: true, preventScrollReset: true });

  return (
    <>
      <PageHeader
        title={run.name}
        badge={<StateBadge look={RUN_STATES[run.state]} size="lg" />}
        parents={[{ label: "Runs", to: `/f/${slug}/runs` }]}
        text={<About slug={slug} run={run} />}
        actions={<RunActions slug={slug} run={run} />}
      />
      <Stack gap="md">
        <RunFailures slug={slug} run={run} rounds={rounds} hrefOf={hrefOf} />
        <RunFigures slug={slug} run={run} rounds={rounds} />
        <RoundsPanel run={run} rounds={rounds} selected={selected} select={select} />
        <Grid gap="md" align="stretch">
          <Grid.Col span={{ base: 12, lg: 7 }} order={{ base: 2, lg: 1 }}>
            <CurvesPanel slug={slug} run={run} selected={selected} select={select} />
          </Grid.Col>
          <Grid.Col span={{ base: 12, lg: 5 }} order={{ base: 1, lg: 2 }}>
            {current === undefined ? (
              <NoRound run={run} isPending={history.isPending} />
            ) : (
              <RoundPanel slug={slug} run={run} round={current} />
            )}
          </Grid.Col>
        </Grid>
        <Tabs value={search.get("tab") === "plan" ? "plan" : "rounds"} onChange={choose} keepMounted={false}>
          <Tabs.List mb="md">
            <Tabs.Tab value="rounds">Rounds</Tabs.Tab>
            <Tabs.Tab value="plan">Plan and lineage</Tabs.Tab>
          </Tabs.List>
          <Tabs.Panel value="rounds">
            <QueryView query={history}>
              {({ rounds: all, isWhole }) =>
                all.length === 0 ? (
                  <Text c="dimmed" size="sm">
                    No round has been opened yet.
                  </Text>
                ) : (
                  <RoundsTable rounds={all} isWhole={isWhole} hrefOf={hrefOf} />
                )
              }
            </QueryView>
          </Tabs.Panel>
          <Tabs.Panel value="plan">
            <PlanPanel slug={slug} run={run} />
          </Tabs.Panel>
        </Tabs>
      </Stack>
      {selected !== undefined && (
        <RoundDrawer slug={slug} run={run} number={selected} rounds={rounds} select={select} />
      )}
    </>
  );
}

/** What the run waits for or why it ended, and what it trains. */
function About({ slug, run }: { slug: string; run: Run }) {
  const { plan } = run;
  return (
    <Stack gap={2}>
      {run.state_reason && (
        <Text size="sm" c="var(--mantine-color-text)" role="status">
          {run.pausing ? `Pauses after this round: ${run.state_reason}` : run.state_reason}
        </Text>
      )}
      <span>
        Trains{" "}
        <Anchor component={Link} to={`/f/${slug}/models/${plan.model}`} inherit underline="always">
          {plan.model}
        </Anchor>{" "}
        by {plan.strategy.name}
        {plan.secure != null && ", securely aggregated"}
        {plan.buffer != null && ", in asynchronous rounds"}
        {`, at ${plural(plan.cohort.min_sites, "site")} or more`}
        {run.parent_run_id != null && <ForkedFrom slug={slug} runId={run.parent_run_id} />}
      </span>
    </Stack>
  );
}

function ForkedFrom({ slug, runId }: { slug: string; runId: string }) {
  const parent = useQuery(runQuery(slug, runId));
  return (
    <>
      , forked from{" "}
      <Anchor component={Link} to={`/f/${slug}/runs/${runId}`} inherit underline="always">
        {parent.data?.name ?? "another run"}
      </Anchor>
    </>
  );
}

function NoRound({ run, isPending }: { run: Run; isPending: boolean }) {
  return (
    <Panel title="Round" h="100%">
      <Stack align="center" gap="xs" py="xl">
        <IconHourglass size={28} stroke={1.5} aria-hidden />
        <Text size="sm" c="dimmed" ta="center">
          {isPending ? "Loading" : (NOTHING[run.state] ?? "No round was held.")}
        </Text>
      </Stack>
    </Panel>
  );
}

const NOTHING: Partial<Record<Run["state"], string>> = {
  draft: "The run is a draft. Its first round opens when somebody starts it.",
  queued: "The first round opens when enough sites are online.",
  running: "The first round is about to open.",
};

function numberIn(text: string | null): number | undefined {
  const number = Number(text);
  return text !== null && Number.isInteger(number) && number > 0 ? number : undefined;
}
