import { Skeleton, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";

import type { Run } from "@/api/types";
import { Sparkline } from "@/components/charts/Sparkline";
import classes from "@/features/runs/RunsPage.module.css";
import { curveName, latest, ranked } from "@/features/runs/metrics";
import { sparkQuery } from "@/features/runs/runs";
import { formatMetric } from "@/format/sizes";

/** The shape of a run's main metric and its last value. */
export function RunSpark({ slug, run }: { slug: string; run: Run }) {
  const query = useQuery(sparkQuery(slug, run));
  if (query.isPending) return <Skeleton h={22} w={120} />;
  const curve = ranked(query.data?.curves ?? [], run.plan.early_stopping)[0];
  const last = curve === undefined ? null : latest(curve);
  if (curve === undefined || last === null) return <Text c="dimmed">–</Text>;
  const value = formatMetric(last.value);
  return (
    <span className={classes.spark}>
      <Sparkline values={curve.aggregated} label={`${curveName(curve)}, now ${value}`} width={84} />
      <span className={classes.figure}>
        <span className="numbers">{value}</span>
        <Text span size="xs" c="dimmed">
          {curve.kind === "eval" ? curve.name : `${curve.name}, training`}
        </Text>
      </span>
    </span>
  );
}
