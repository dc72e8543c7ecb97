/** Runs side by side: their curves, what they came to, and what is different in their plans. */
import { Button, Group, Stack } from "@mantine/core";
import { IconGitCompare } from "@tabler/icons-react";
import { useQueries, useQuery } from "@tanstack/react-query";
import { useSearchParams } from "react-router";

import { useListing } from "@/api/paging";
import { LINE_COLOURS } from "@/app/theme";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import { Problem } from "@/components/Problem";
import { Loading, QueryView } from "@/components/QueryView";
import { MOST_RUNS, metricRows, tellApart } from "@/features/comparison/comparison";
import { CompareCurves } from "@/features/comparison/CompareCurves";
import { PlanDifferences } from "@/features/comparison/PlanDifferences";
import { RunPicker } from "@/features/comparison/RunPicker";
import { SideBySide } from "@/features/comparison/SideBySide";
import { useSlug } from "@/features/federations/federations";
import { curvesQuery, runQuery, runsListing } from "@/features/runs/runs";

export function ComparePage() {
  const slug = useSlug();
  const [search, setSearch] = useSearchParams();
  const chosen = [...new Set(search.getAll("run"))].slice(0, MOST_RUNS);
  const asked = useQueries({ queries: chosen.map((id) => runQuery(slug, id)) });
  const runs = asked.flatMap((query) => (query.data === undefined ? [] : [query.data]));
  const failed = asked.filter((query) => query.isError && query.data === undefined);
  const isPending = runs.length + failed.length < chosen.length;
  const names = tellApart(runs);
  const colours = runs.map((_, at) => LINE_COLOURS[at % LINE_COLOURS.length] ?? LINE_COLOURS[0]);
  const curves = useQuery({ ...curvesQuery(slug, runs.map((run) => run.id)), enabled: runs.length > 0 && !isPending });

  function choose(ids: readonly string[]): void {
    setSearch((old) => {
      old.delete("run");
      for (const id of ids) old.append("run", id);
      return old;
    });
  }

  return (
    <>
      <PageHeader
        title="Compare runs"
        text="Two to eight runs of this federation side by side."
        parents={[{ label: "Runs", to: `/f/${slug}/runs` }]}
      />
      <Stack gap="lg">
        <RunPicker runs={runs} names={names} colours={colours} chosen={chosen} choose={choose} />
        {failed.map((query, at) => (
          <Problem key={at} error={query.error} retry={() => void query.refetch()} />
        ))}
        {isPending ? (
          <Loading rows={8} />
        ) : runs.length < 2 ? (
          <TooFew chosen={chosen} choose={choose} />
        ) : (
          <QueryView query={curves} rows={8}>
            {(set) => {
              const aligned = runs.map((run) => set.runs.find((one) => one.run_id === run.id));
              const metrics = metricRows(aligned, runs);
              return (
                <>
                  <CompareCurves runs={runs} names={names} colours={colours} metrics={metrics} curves={aligned} />
                  <SideBySide runs={runs} names={names} metrics={metrics} />
                  <PlanDifferences runs={runs} names={names} />
                </>
              );
            }}
          </QueryView>
        )}
      </Stack>
    </>
  );
}

const OFFERED = 6;

function TooFew({ chosen, choose }: { chosen: readonly string[]; choose: (ids: string[]) => void }) {
  const slug = useSlug();
  const newest = useListing(runsListing(slug), { all: false });
  const first = newest.items.find((run) => run.id === chosen[0]);
  const others = newest.items.filter((run) => !chosen.includes(run.id));
  // What is compared most is what belongs together: runs of the same model.
  const offered = others.toSorted((one, other) => Number(isLike(other)) - Number(isLike(one))).slice(0, OFFERED);

  function isLike(run: (typeof others)[number]): boolean {
    return run.plan.model === first?.plan.model;
  }

  if (newest.isPending) return <Loading rows={5} />;
  if (newest.items.length < 2) {
    return (
      <EmptyState icon={IconGitCompare} title="There is nothing to compare yet" command="hansa run create plan.toml">
        A comparison takes two runs. Create another one, or fork one with a changed plan.
      </EmptyState>
    );
  }
  return (
    <EmptyState
      icon={IconGitCompare}
      title={chosen.length === 0 ? "Choose two runs" : "Choose another run"}
      action={
        <Group justify="center" gap="xs">
          {offered.map((run) => (
            <Button key={run.id} variant="default" size="xs" onClick={() => choose([...chosen, run.id])}>
              {run.name}
            </Button>
          ))}
        </Group>
      }
    >
      Curves, totals and the differences of their plans are shown as soon as there are two.
    </EmptyState>
  );
}
