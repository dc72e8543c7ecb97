import { Anchor, Button, Checkbox, Group, MultiSelect, Select, Stack, Text, TextInput } from "@mantine/core";
import { useDebouncedCallback } from "@mantine/hooks";
import { IconArrowsDiff, IconChartLine, IconPlus, IconSearch } from "@tabler/icons-react";
import { Link, useSearchParams } from "react-router";

import { useListing } from "@/api/paging";
import type { Run } from "@/api/types";
import type { Column } from "@/components/DataTable";
import { DataTable } from "@/components/DataTable";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { StateBadge } from "@/components/StateBadge";
import { RUN_STATES } from "@/components/states";
import { Ago, Bytes, Lasted } from "@/components/values";
import { useMay, useSlug } from "@/features/federations/federations";
import { modelChoices } from "@/features/plans/plans";
import { RunProgress } from "@/features/runs/RunProgress";
import classes from "@/features/runs/RunsPage.module.css";
import { RunSpark } from "@/features/runs/RunSpark";
import { isRunState, runsListing } from "@/features/runs/runs";
import { formatSeconds } from "@/format/times";
import { plural } from "@/format/words";

const MOST_COMPARED = 8;

export function RunsPage() {
  const slug = useSlug();
  const mayRun = useMay("run");
  const [search, setSearch] = useSearchParams();
  const states = search.getAll("state").filter(isRunState);
  const modelId = search.get("model") ?? undefined;
  const named = search.get("q") ?? undefined;
  const chosen = search.getAll("run");
  const listed = useListing(runsListing(slug, { states, modelId, named }));
  const isFiltered = states.length > 0 || modelId !== undefined || named !== undefined;

  function change(name: string, values: readonly string[]): void {
    setSearch(
      (before) => {
        const next = new URLSearchParams(before);
        next.delete(name);
        for (const value of values) next.append(name, value);
        return next;
      },
      { replace: true },
    );
  }

  const compare = new URLSearchParams(chosen.map((id) => ["run", id]));
  return (
    <>
      <PageHeader
        title="Runs"
        text="Each trains one model in rounds, at the sites that its plan admits."
        actions={
          mayRun && (
            <Button component={Link} to={`/f/${slug}/runs/new`} leftSection={<IconPlus size={16} aria-hidden />}>
              New run
            </Button>
          )
        }
      />
      {!isFiltered && listed.isComplete && listed.items.length === 0 ? (
        <NoRuns slug={slug} mayRun={mayRun} />
      ) : (
        <Stack gap="md">
          <Group justify="space-between" gap="sm">
            <Filters states={states} modelId={modelId} named={named} change={change} />
            {chosen.length > 0 && (
              <Group gap="xs" className={classes.compare}>
                <Text size="sm">{plural(chosen.length, "run")} selected</Text>
                {chosen.length < 2 ? (
                  <Text size="sm" c="dimmed">
                    Select another to compare them.
                  </Text>
                ) : (
                  <Button
                    size="xs"
                    component={Link}
                    to={`/f/${slug}/runs/compare?${compare.toString()}`}
                    leftSection={<IconArrowsDiff size={15} aria-hidden />}
                  >
                    Compare
                  </Button>
                )}
                <Button size="xs" variant="subtle" onClick={() => change("run", [])}>
                  Clear
                </Button>
              </Group>
            )}
          </Group>
          {listed.error != null && <Problem error={listed.error} retry={listed.refetch} />}
          {listed.isPending && listed.error == null && <Loading rows={8} />}
          {listed.isComplete && listed.items.length === 0 && (
            <EmptyState
              icon={IconSearch}
              title="No run is like that"
              action={
                <Button variant="default" onClick={() => setSearch({})}>
                  Show all runs
                </Button>
              }
            />
          )}
          {listed.items.length > 0 && (
            <DataTable
              label="Runs"
              rows={listed.items}
              rowKey={(run) => run.id}
              columns={columns(slug, chosen, (ids) => change("run", ids))}
              href={(run) => `/f/${slug}/runs/${run.id}`}
              rowHeight={62}
              footer={plural(listed.items.length, "run")}
            />
          )}
        </Stack>
      )}
    </>
  );
}

function columns(slug: string, chosen: readonly string[], choose: (ids: string[]) => void): Column<Run>[] {
  return [
    {
      key: "choose",
      header: "Compare",
      hideHeader: true,
      width: "20px",
      cell: (run) => (
        <Checkbox
          size="xs"
          className={classes.choose ?? ""}
          aria-label={`Compare ${run.name}`}
          checked={chosen.includes(run.id)}
          disabled={!chosen.includes(run.id) && chosen.length >= MOST_COMPARED}
          onChange={(event) =>
            choose(event.currentTarget.checked ? [...chosen, run.id] : chosen.filter((id) => id !== run.id))
          }
        />
      ),
    },
    {
      key: "name",
      header: "Run",
      width: "minmax(150px, 1.5fr)",
      isTitle: true,
      sortBy: (run) => run.name,
      cell: (run) => (
        <>
          <Anchor component={Link} to={`/f/${slug}/runs/${run.id}`} fw={560} inherit>
            {run.name}
          </Anchor>
          <Text size="xs" c="dimmed" fw={400}>
            {run.plan.model} · {run.plan.strategy.name}
            {run.plan.secure != null && " · secure"}
          </Text>
        </>
      ),
    },
    {
      key: "state",
      header: "State",
      width: "minmax(120px, 1.5fr)",
      sortBy: (run) => run.state,
      cell: (run) => (
        <div className={classes.state}>
          <StateBadge look={RUN_STATES[run.state]} />
          {run.state_reason && (
            <Text size="xs" c="dimmed" lineClamp={2} title={run.state_reason}>
              {run.state_reason}
            </Text>
          )}
        </div>
      ),
    },
    {
      key: "rounds",
      header: "Rounds",
      width: "minmax(90px, 0.8fr)",
      sortBy: (run) => run.rounds_completed,
      cell: (run) => <RunProgress run={run} />,
    },
    { key: "metric", header: "Metric", width: "190px", cell: (run) => <RunSpark slug={slug} run={run} /> },
    {
      key: "time",
      header: "Active time",
      width: "96px",
      align: "end",
      sortBy: (run) => run.active_seconds,
      cell: (run) =>
        run.state === "running" && run.active_seconds === 0 ? (
          <Lasted from={run.started_at} />
        ) : run.active_seconds > 0 ? (
          formatSeconds(run.active_seconds)
        ) : (
          "–"
        ),
    },
    {
      key: "bytes",
      header: "Moved",
      width: "76px",
      align: "end",
      sortBy: (run) => run.bytes_moved,
      cell: (run) => <Bytes value={run.bytes_moved} />,
    },
    {
      key: "created",
      header: "Created",
      width: "92px",
      align: "end",
      sortBy: (run) => run.created_at,
      cell: (run) => <Ago at={run.created_at} />,
    },
  ];
}

interface FilterProps {
  states: readonly string[];
  modelId: string | undefined;
  named: string | undefined;
  change: (name: string, values: readonly string[]) => void;
}

function Filters({ states, modelId, named, change }: FilterProps) {
  const slug = useSlug();
  const models = useListing(modelChoices(slug));
  const search = useDebouncedCallback((text: string) => change("q", text ? [text] : []), 300);
  return (
    <Group gap="sm" className={classes.filters}>
      <TextInput
        aria-label="Part of a run's name"
        placeholder="Name"
        leftSection={<IconSearch size={15} aria-hidden />}
        defaultValue={named ?? ""}
        onChange={(event) => search(event.currentTarget.value)}
        w={180}
      />
      <MultiSelect
        aria-label="States"
        placeholder={states.length === 0 ? "Any state" : ""}
        data={Object.entries(RUN_STATES).map(([value, look]) => ({ value, label: look.label }))}
        value={[...states]}
        onChange={(values) => change("state", values)}
        clearable
        miw={180}
      />
      <Select
        aria-label="Model"
        placeholder="Any model"
        data={models.items.map((model) => ({ value: model.id, label: model.name }))}
        value={modelId ?? null}
        onChange={(value) => change("model", value === null ? [] : [value])}
        clearable
        searchable
        w={180}
      />
    </Group>
  );
}

function NoRuns({ slug, mayRun }: { slug: string; mayRun: boolean }) {
  return (
    <EmptyState
      icon={IconChartLine}
      title="No run yet"
      command={`hansa run create --federation ${slug} plan.toml --watch`}
      action={
        mayRun && (
          <Button component={Link} to={`/f/${slug}/runs/new`} leftSection={<IconPlus size={16} aria-hidden />}>
            New run
          </Button>
        )
      }
    >
      A run trains a model in rounds: its plan says which sites take part, how their updates are combined and when
      it ends. Fill in a form here, or write a plan and hand it in:
    </EmptyState>
  );
}
