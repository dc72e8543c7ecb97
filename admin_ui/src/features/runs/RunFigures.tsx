import { useQuery } from "@tanstack/react-query";

import type { Round, Run } from "@/api/types";
import { Figures } from "@/components/Facts";
import { Ago, Bytes, useNow } from "@/components/values";
import { best, latest, lowerIsBetter, ranked } from "@/features/runs/metrics";
import { activeSeconds, openRound, roundSeconds } from "@/features/runs/rounds";
import { curvesQuery } from "@/features/runs/runs";
import { formatBytes, formatCount, formatMetric } from "@/format/sizes";
import { formatSeconds } from "@/format/times";

interface Props {
  slug: string;
  run: Run;
  rounds: readonly Round[]; // newest first
}

/** A run in five numbers. */
export function RunFigures({ slug, run, rounds }: Props) {
  const now = useNow(run.state === "running" ? 1000 : 60_000);
  const curves = useQuery(curvesQuery(slug, [run.id], { sites: true }));
  const { early_stopping: stops, rounds: planned } = run.plan;
  const curve = ranked(curves.data?.runs[0]?.curves ?? [], stops)[0];
  const top = curve === undefined ? null : best(curve, lowerIsBetter(curve, stops));
  const last = curve === undefined ? null : latest(curve);
  const open = openRound(rounds);
  const shown = open ?? rounds[0];
  const counts = shown?.counts;
  const asked = counts == null ? 0 : counts.open + counts.claimed + counts.done + counts.failed + counts.late;
  return (
    <Figures
      figures={[
        {
          name: "Rounds completed",
          value: `${formatCount(run.rounds_completed)} of ${formatCount(planned)}`,
          note: usual(rounds, now),
        },
        {
          name: open === undefined ? "Sites in the last round" : "Sites in this round",
          value: shown === undefined ? "–" : formatCount(asked),
          note: counts == null ? "no round yet" : `${formatCount(counts.done)} done${problems(counts)}`,
        },
        {
          name: "Moved",
          value: <Bytes value={run.bytes_moved} />,
          note: run.rounds_completed > 0 ? `${formatBytes(run.bytes_moved / run.rounds_completed)} a round` : "to and from sites",
        },
        {
          name: "Active time",
          value: formatSeconds(activeSeconds(run, rounds, now)),
          note: run.started_at === null ? "not started" : <>started <Ago at={run.started_at} /></>,
        },
        {
          name: curve === undefined ? "Best metric" : `Best ${curve.name}`,
          value: top === null ? "–" : formatMetric(top.value),
          note:
            curve === undefined || top === null || last === null
              ? "no numbers yet"
              : `round ${top.round}, now ${formatMetric(last.value)} ${curve.kind === "eval" ? "" : "in training"}`,
        },
      ]}
    />
  );
}

function usual(rounds: readonly Round[], now: Date): string {
  const took = rounds
    .filter((round) => round.state === "completed")
    .map((round) => roundSeconds(round, now))
    .sort((one, other) => one - other);
  const median = took[Math.floor(took.length / 2)];
  return median === undefined ? "none yet" : `${formatSeconds(median)} a round`;
}

function problems(counts: NonNullable<Round["counts"]>): string {
  const told = [
    counts.failed > 0 ? `${counts.failed} failed` : "",
    counts.late > 0 ? `${counts.late} late` : "",
  ].filter(Boolean);
  return told.length === 0 ? "" : `, ${told.join(", ")}`;
}
