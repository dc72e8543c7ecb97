/** A run's metrics over its rounds: the mean in front, the sites behind it. */
import { Group, MultiSelect, Select, Stack, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import { memo, useMemo } from "react";
import { useSearchParams } from "react-router";

import type { Run } from "@/api/types";
import type { CurveSeries } from "@/components/charts/CurveChart";
import { CurveChart } from "@/components/charts/CurveChart";
import { Panel } from "@/components/Panel";
import { QueryView } from "@/components/QueryView";
import { curveKey, curveName, ranked, tells, withSites } from "@/features/runs/metrics";
import type { MetricCurve } from "@/features/runs/runs";
import { curvesQuery } from "@/features/runs/runs";
import { plural } from "@/format/words";

const MOST_LIT = 5; // sites

interface Props {
  slug: string;
  run: Run;
  selected: number | undefined; // round
  select: (round: number) => void;
}

export const CurvesPanel = memo(function CurvesPanel({ slug, run, selected, select }: Props) {
  const query = useQuery(curvesQuery(slug, [run.id], { sites: true }));
  const [search, setSearch] = useSearchParams();
  const told = query.data?.runs[0];
  const names = useMemo(() => (told?.reporting ?? []).map((site) => site.site_name), [told]);
  const lit = search.getAll("site").filter((name) => names.includes(name));
  // Of very many sites the hub tells some; those in front are asked for by themselves.
  const untold = (told?.reporting ?? []).filter(
    (site) => lit.includes(site.site_name) && !told?.curves.some((curve) => tells(curve, site.site_id)),
  );
  const extra = useQuery({
    ...curvesQuery(slug, [run.id], { sites: true, only: untold.map((site) => site.site_id) }),
    enabled: untold.length > 0,
    placeholderData: keepPreviousData,
  });
  const more = untold.length > 0 ? extra.data?.runs[0] : undefined;
  const curves = useMemo(
    () => ranked(withSites(told?.curves ?? [], more?.curves ?? []), run.plan.early_stopping),
    [told, more, run.plan.early_stopping],
  );
  const first = curves.find((curve) => curveKey(curve) === search.get("metric")) ?? curves[0];
  const second = curves.find((curve) => curveKey(curve) === search.get("beside")) ?? companion(curves, first);

  function change(name: string, values: readonly string[]): void {
    setSearch(
      (before) => {
        const next = new URLSearchParams(before);
        next.delete(name);
        for (const value of values) next.append(name, value);
        return next;
      },
      { replace: true, preventScrollReset: true },
    );
  }

  return (
    <Panel
      title="Metrics"
      h="100%"
      aside={
        names.length > 0 && (
          <MultiSelect
            aria-label="Sites to highlight"
            placeholder={lit.length === 0 ? "Highlight sites" : ""}
            data={names}
            value={lit}
            onChange={(values) => change("site", values)}
            maxValues={MOST_LIT}
            searchable
            limit={50}
            clearable
            size="xs"
            miw={190}
            maw={360}
          />
        )
      }
    >
      <QueryView query={query} rows={8}>
        {() =>
          first === undefined ? (
            <CurveChart label="Metrics" series={[]} height={260} />
          ) : (
            <Stack gap="lg">
              {[
                { curve: first, param: "metric", height: 250 },
                { curve: second, param: "beside", height: 190 },
              ].map(({ curve, param, height }) =>
                curve === undefined ? null : (
                  <div key={param}>
                    <Group justify="space-between" mb={4} gap="xs">
                      <Select
                        aria-label={param === "metric" ? "Metric" : "Second metric"}
                        data={curves.map((one) => ({ value: curveKey(one), label: curveName(one) }))}
                        value={curveKey(curve)}
                        onChange={(value) => value !== null && change(param, [value])}
                        allowDeselect={false}
                        size="xs"
                        w={240}
                      />
                      <Text size="xs" c="dimmed">
                        {about(curve, run)}
                      </Text>
                    </Group>
                    <MetricChart
                      curve={curve}
                      run={run}
                      sites={names.length}
                      lit={lit.join("\n")}
                      height={height}
                      selected={selected}
                      select={select}
                    />
                  </div>
                ),
              )}
            </Stack>
          )
        }
      </QueryView>
    </Panel>
  );
});

interface MetricProps {
  curve: MetricCurve;
  run: Run;
  sites: number; // that reported, drawn or not
  lit: string; // sites in front, by name, with a line for each
  height: number;
  selected: number | undefined;
  select: (round: number) => void;
}

/** One metric's chart; drawn anew only when its numbers change. */
function MetricChart({ curve, run, sites, lit, height, selected, select }: MetricProps) {
  const isSecure = run.plan.secure != null;
  const names = useMemo(() => lit.split("\n").filter(Boolean), [lit]);
  const series = useMemo(() => seriesOf(curve, names, isSecure), [curve, names, isSecure]);
  const drawn = series.filter((one) => one.faint).length;
  const others = sites - (series.length - 1 - drawn);
  return (
    <CurveChart
      label={`${curveName(curve)} by round`}
      series={series}
      faintLabel={drawn < others ? `${drawn} of ${others} sites` : plural(drawn, "site")}
      height={height}
      mark={selected}
      onPick={select}
    />
  );
}

/** Returns what is drawn below the first curve: a loss beside a score, measured alike if there is one. */
function companion(curves: readonly MetricCurve[], first: MetricCurve | undefined): MetricCurve | undefined {
  const others = curves.filter((curve) => curve !== first);
  return others.find((curve) => curve.name === "loss" && curve.kind === first?.kind) ?? others[0];
}

function seriesOf(curve: MetricCurve, lit: readonly string[], isSecure: boolean): CurveSeries[] {
  const { rounds } = curve;
  return [
    {
      name: isSecure && curve.sites.length === 0 ? "securely summed mean" : "mean over sites",
      rounds,
      values: curve.aggregated,
      colour: "hansa.6",
    },
    ...curve.sites
      .filter((site) => lit.includes(site.site_name))
      .map((site, index) => ({
        name: site.site_name,
        rounds,
        values: site.values,
        colour: LIT_COLOURS[index % LIT_COLOURS.length] ?? "orange.6",
      })),
    ...curve.sites
      .filter((site) => !lit.includes(site.site_name))
      .map((site) => ({ name: site.site_name, rounds, values: site.values, faint: true })),
  ];
}

const LIT_COLOURS = ["orange.6", "violet.5", "pink.6", "blue.5", "lime.7"] as const;

function about(curve: MetricCurve, run: Run): string {
  if (curve.sites.length === 0 && run.plan.secure != null) return "Sites' own numbers stay at the sites.";
  return "Weighted by examples.";
}
