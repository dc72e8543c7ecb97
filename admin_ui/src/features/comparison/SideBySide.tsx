/** How the runs went: states, totals and metrics, one column a run. */
import { Anchor, ScrollArea } from "@mantine/core";
import { IconAward } from "@tabler/icons-react";
import { useQueries } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { Link } from "react-router";

import type { Run } from "@/api/types";
import { Panel } from "@/components/Panel";
import { StateBadge } from "@/components/StateBadge";
import { RUN_STATES } from "@/components/states";
import { Ago, Bytes, Digest, useNow } from "@/components/values";
import classes from "@/features/comparison/comparison.module.css";
import type { MetricRow } from "@/features/comparison/comparison";
import { lastRoundQuery } from "@/features/comparison/queries";
import { useSlug } from "@/features/federations/federations";
import type { Best } from "@/features/runs/metrics";
import { curveName } from "@/features/runs/metrics";
import { activeSeconds } from "@/features/runs/rounds";
import { runQuery } from "@/features/runs/runs";
import { formatCount, formatMetric } from "@/format/sizes";
import { formatSeconds } from "@/format/times";

interface Props {
  runs: readonly Run[];
  names: readonly string[];
  metrics: readonly MetricRow[];
}

export function SideBySide({ runs, names, metrics }: Props) {
  const slug = useSlug();
  const now = useNow();
  const lastRounds = useQueries({ queries: runs.map((run) => lastRoundQuery(slug, run.id)) });
  const rows: [string, (run: Run, at: number) => ReactNode][] = [
    ["State", (run) => <StateBadge look={RUN_STATES[run.state]} />],
    ["Model", (run) => <Anchor component={Link} to={`/f/${slug}/models/${run.plan.model}`} size="sm">{run.plan.model}</Anchor>],
    ["Rounds", (run) => `${formatCount(run.rounds_completed)} of ${formatCount(run.plan.rounds)}`],
    ["At work", (run) => (run.started_at === null ? "–" : formatSeconds(activeSeconds(run, [], now)))],
    ["A round", (run) => paceOf(run, now)],
    ["Traffic", (run) => <Bytes value={run.bytes_moved} />],
    ["Sites in the last round", (_, at) => lastRounds[at]?.data?.counts?.done ?? "–"],
    ["Started", (run) => <Ago at={run.started_at} never="not yet" />],
    ["Forked from", (run) => <Parent run={run} runs={runs} names={names} />],
    ["Base checkpoint", (run) => <Digest value={run.base_checkpoint_id} name="base checkpoint's id" characters={13} />],
  ];
  return (
    <Panel title="Side by side">
      <ScrollArea type="auto" viewportProps={{ tabIndex: 0, "aria-label": "Runs side by side" }}>
        <table className={classes.table}>
          <thead>
            <tr>
              <td />
              {names.map((name) => (
                <th key={name} scope="col">
                  {name}
                </th>
              ))}
            </tr>
          </thead>
          <tbody>
            {metrics.map((metric) => (
              <tr key={metric.key}>
                <th scope="row">
                  {curveName(metric.curve)}
                  <div className={classes.note}>{metric.isLower ? "lower is better" : "higher is better"}</div>
                </th>
                {runs.map((run, at) => (
                  <td key={run.id}>
                    <Value best={metric.best[at] ?? null} last={metric.last[at] ?? null} isBest={metric.bestOf.has(at)} />
                  </td>
                ))}
              </tr>
            ))}
            {rows.map(([title, cell]) => (
              <tr key={title}>
                <th scope="row">{title}</th>
                {runs.map((run, at) => (
                  <td key={run.id} className="numbers">
                    {cell(run, at)}
                  </td>
                ))}
              </tr>
            ))}
          </tbody>
        </table>
      </ScrollArea>
    </Panel>
  );
}

function paceOf(run: Run, now: Date): string {
  if (run.rounds_completed === 0) return "–";
  return formatSeconds(activeSeconds(run, [], now) / run.rounds_completed);
}

/** The best value of a run with its round, and the last where it is another. */
function Value({ best, last, isBest }: { best: Best | null; last: Best | null; isBest: boolean }) {
  if (best === null) return <span>–</span>;
  return (
    <span className="numbers">
      <span className={isBest ? classes.other : undefined}>{formatMetric(best.value)}</span>
      {isBest && (
        <span className={classes.bestMark}>
          <IconAward size={13} aria-hidden />
          best
        </span>
      )}
      <div className={classes.note}>
        {last === null || last.round === best.round
          ? `${roundOf(best)}, the last`
          : `${roundOf(best)}; last ${formatMetric(last.value)}`}
      </div>
    </span>
  );
}

function roundOf({ round }: Best): string {
  return round === 0 ? "at the base" : `round ${round}`;
}

function Parent({ run, runs, names }: { run: Run; runs: readonly Run[]; names: readonly string[] }) {
  const slug = useSlug();
  const parentId = run.parent_run_id ?? "";
  const at = runs.findIndex((one) => one.id === parentId);
  const [parent] = useQueries({
    queries: [{ ...runQuery(slug, parentId), enabled: parentId !== "" && at < 0 }],
  });
  if (parentId === "") return <>–</>;
  return (
    <Anchor component={Link} to={`/f/${slug}/runs/${parentId}`} size="sm">
      {at >= 0 ? names[at] : (parent.data?.name ?? "another run")}
    </Anchor>
  );
}
