/** What a site was asked for in all runs, and why what failed failed. */
import { Anchor, Button, Group, Stack, Text, Title } from "@mantine/core";
import { IconChevronDown, IconChevronUp, IconHistory } from "@tabler/icons-react";
import { Link, useSearchParams } from "react-router";

import { useListing } from "@/api/paging";
import type { Site, TaskView } from "@/api/types";
import type { Column } from "@/components/DataTable";
import { DataTable } from "@/components/DataTable";
import { EmptyState } from "@/components/EmptyState";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { StateBadge } from "@/components/StateBadge";
import { TASK_STATES } from "@/components/states";
import { Ago, Bytes, Lasted } from "@/components/values";
import { FilterLinks, replaced } from "@/features/sites/FilterLinks";
import { TaskDetail } from "@/features/sites/TaskDetail";
import type { SiteTask, TaskState } from "@/features/sites/sites";
import { historyListing } from "@/features/sites/sites";
import { formatCount } from "@/format/sizes";
import { plural } from "@/format/words";

const FILTERS: { value: string | null; label: string; states: TaskState[] }[] = [
  { value: null, label: "All", states: [] },
  { value: "open", label: "Now", states: ["open", "claimed"] },
  { value: "done", label: "Done", states: ["done"] },
  { value: "failed", label: "Failed", states: ["failed"] },
  { value: "late", label: "Late", states: ["late"] },
  { value: "cancelled", label: "Cancelled", states: ["cancelled"] },
];

export function SiteHistory({ slug, site }: { slug: string; site: Site }) {
  const [search] = useSearchParams();
  const filter = FILTERS.find(({ value }) => value === search.get("tasks")) ?? FILTERS[0];
  return (
    <Stack gap="sm" component="section" aria-label="Tasks">
      <Group justify="space-between" gap="xs">
        <Title order={2}>Tasks</Title>
        <FilterLinks
          label="Tasks by state"
          links={FILTERS.map(({ value, label }) => ({
            label,
            search: replaced(search, { tasks: value, task: null }),
            selected: value === filter?.value,
          }))}
        />
      </Group>
      <History slug={slug} site={site} states={filter?.states ?? []} />
    </Stack>
  );
}

function History({ slug, site, states }: { slug: string; site: Site; states: TaskState[] }) {
  const [search] = useSearchParams();
  const listed = useListing(historyListing(slug, site.id, states), { all: false });
  if (listed.error !== null && listed.items.length === 0) return <Problem error={listed.error} retry={listed.refetch} />;
  if (listed.isPending) return <Loading rows={6} />;
  if (listed.items.length === 0) return <NoTasks site={site} isFiltered={states.length > 0} />;
  const opened = search.get("task");
  return (
    <DataTable
      label={`Tasks of ${site.name}`}
      rows={listed.items}
      columns={columns(slug, search)}
      rowKey={(row) => row.task.id}
      detail={(row) => (row.task.id === opened ? <TaskDetail task={row.task} /> : null)}
      footer={
        <Group justify="space-between">
          <span>
            {plural(listed.items.length, "task")}
            {listed.isComplete ? "" : ", the newest"}
          </span>
          {!listed.isComplete && (
            <Button size="compact-xs" variant="subtle" onClick={listed.more} loading={listed.isFetchingMore}>
              Show older ones
            </Button>
          )}
        </Group>
      }
    />
  );
}

function NoTasks({ site, isFiltered }: { site: Site; isFiltered: boolean }) {
  if (isFiltered) {
    return (
      <Text size="sm" c="dimmed" className="panel" p="md">
        No task of it is like that.
      </Text>
    );
  }
  return (
    <EmptyState icon={IconHistory} title="It was not asked for anything yet">
      {site.state === "active"
        ? "The next round whose cohort it belongs to asks it."
        : "Rounds ask active sites alone."}
    </EmptyState>
  );
}

function columns(slug: string, search: URLSearchParams): Column<SiteTask>[] {
  return [
    {
      key: "run",
      header: "Run",
      isTitle: true,
      width: "minmax(110px, 1fr)",
      cell: ({ run_id, run_name, round_number }) => (
        <Anchor
          component={Link}
          to={`/f/${slug}/runs/${run_id}?round=${round_number}`}
          inherit
          c="var(--mantine-color-text)"
        >
          {run_name}
        </Anchor>
      ),
    },
    {
      key: "round",
      header: "Round",
      width: "86px",
      cell: ({ round_number, kind }) => (
        <span className="numbers">
          {formatCount(round_number)}
          {kind === "evaluate" && (
            <Text span size="xs" c="dimmed">
              {" "}
              evaluates
            </Text>
          )}
        </span>
      ),
    },
    { key: "state", header: "State", width: "92px", cell: ({ task }) => <StateBadge look={TASK_STATES[task.state]} /> },
    { key: "asked", header: "Asked", width: "88px", cell: ({ task }) => <Ago at={task.created_at} /> },
    {
      key: "took",
      header: "Took",
      align: "end",
      width: "80px",
      cell: ({ task }) => {
        const isOver = task.state !== "open" && task.state !== "claimed";
        if (isOver && task.finished_at === null) return "–";
        return <Lasted from={task.claimed_at} to={task.finished_at} />;
      },
    },
    {
      key: "size",
      header: "Update",
      align: "end",
      width: "70px",
      cell: ({ task }) => <Bytes value={task.update_size} />,
    },
    {
      key: "more",
      header: "Details",
      hideHeader: true,
      align: "end",
      width: "76px",
      cell: ({ task }) => <More search={search} task={task} />,
    },
  ];
}

function More({ search, task }: { search: URLSearchParams; task: TaskView }) {
  const isOpen = search.get("task") === task.id;
  const Chevron = isOpen ? IconChevronUp : IconChevronDown;
  return (
    <Button
      component={Link}
      to={{ search: replaced(search, { task: isOpen ? null : task.id }) }}
      replace
      preventScrollReset
      size="compact-xs"
      variant="subtle"
      aria-expanded={isOpen}
      rightSection={<Chevron size={13} aria-hidden />}
    >
      {isOpen ? "Hide" : task.state_reason ? "Why" : "More"}
    </Button>
  );
}
