/** The runs' curves over each other, one chart a metric. */
import { Button, SegmentedControl, Text, Title } from "@mantine/core";
import { useQueries } from "@tanstack/react-query";
import { useState } from "react";
import { useSearchParams } from "react-router";

import type { Run } from "@/api/types";
import { CurveChart } from "@/components/charts/CurveChart";
import { Panel } from "@/components/Panel";
import classes from "@/features/comparison/comparison.module.css";
import type { Axis, Course, MetricRow, Unit } from "@/features/comparison/comparison";
import { along, courseOf, unitFor } from "@/features/comparison/comparison";
import { useSlug } from "@/features/federations/federations";
import { curveKey, curveName } from "@/features/runs/metrics";
import type { RunCurves } from "@/features/runs/runs";
import { roundsQuery } from "@/features/runs/runs";

interface Props {
  runs: readonly Run[];
  names: readonly string[];
  colours: readonly string[];
  metrics: readonly MetricRow[];
  curves: readonly (RunCurves | undefined)[]; // aligned with the runs
}

const FIRST = 4; // charts

const AXES: Record<Axis, string> = { round: "Rounds", bytes: "Sent by sites", time: "Time" };

export function CompareCurves({ runs, names, colours, metrics, curves }: Props) {
  const slug = useSlug();
  const [search, setSearch] = useSearchParams();
  const asked = search.get("by");
  const axis: Axis = asked === "bytes" || asked === "time" ? asked : "round";
  const [isWhole, setWhole] = useState(false);
  const rounds = useQueries({
    queries: runs.map((run) => ({ ...roundsQuery(slug, run.id), enabled: axis !== "round" })),
  });
  const courses = runs.map((run, at) => courseOf(run, rounds[at]?.data?.rounds ?? []));
  const unit = unitFor(axis, greatest(courses, axis));
  const shown = isWhole ? metrics : metrics.slice(0, FIRST);
  return (
    <Panel
      title="Curves"
      aside={
        <SegmentedControl
          size="xs"
          aria-label="What the curves run along"
          value={axis}
          data={Object.entries(AXES).map(([value, label]) => ({ value, label }))}
          onChange={(next) =>
            setSearch(
              (old) => {
                if (next === "round") old.delete("by");
                else old.set("by", next);
                return old;
              },
              { replace: true },
            )
          }
        />
      }
    >
      {metrics.length === 0 && (
        <Text size="sm" c="dimmed">
          None of these runs has a number yet. They come with the first round.
        </Text>
      )}
      <div className={classes.charts}>
        {shown.map((metric) => (
          <div key={metric.key}>
            <Title order={3} mb="xs">
              {curveName(metric.curve)}
            </Title>
            <CurveChart
              label={`${curveName(metric.curve)}, by run`}
              height={240}
              xLabel={axisLabel(axis, unit)}
              empty="No numbers along this axis yet."
              series={runs.flatMap((_, at) => {
                const curve = curves[at]?.curves.find((one) => curveKey(one) === metric.key);
                const colour = colours[at];
                if (curve === undefined || colour === undefined) return [];
                const series = { name: names[at] ?? "", rounds: curve.rounds, values: curve.aggregated, colour };
                return [along(series, courses[at], axis, unit)];
              })}
            />
          </div>
        ))}
      </div>
      {metrics.length > FIRST && (
        <Button variant="subtle" size="compact-sm" mt="sm" onClick={() => setWhole(!isWhole)}>
          {isWhole ? "Fewer metrics" : `All ${metrics.length} metrics`}
        </Button>
      )}
    </Panel>
  );
}

function axisLabel(axis: Axis, unit: Unit): string {
  if (axis === "round") return "Round";
  return axis === "bytes" ? `Sent by sites (${unit.label})` : `Since the start (${unit.label})`;
}

function greatest(courses: readonly Course[], axis: Axis): number {
  const places = courses.flatMap((course) => [...(axis === "bytes" ? course.bytes : course.seconds).values()]);
  return places.reduce((most, place) => Math.max(most, place), 0);
}
