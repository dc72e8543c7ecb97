/**
 * Curves over rounds. Series in the foreground have colours and a place in the legend, where they
 * can be switched off; those in the background share one grey and one switch. What is drawn is
 * also there as a table for who cannot see it.
 */
import { LineChart } from "@mantine/charts";
import { UnstyledButton, getThemeColor, useMantineTheme } from "@mantine/core";
import { useMemo, useState } from "react";

import { LINE_COLOURS } from "@/app/theme";
import { CurveTip } from "@/components/charts/CurveTip";
import classes from "@/components/charts/charts.module.css";
import { extremes, ticksOf } from "@/components/charts/scales";
import type { CurveSeries } from "@/components/charts/curveData";
import { curveRows, keyOf, lastPoint } from "@/components/charts/curveData";
import { formatCount, formatMetric } from "@/format/sizes";

export type { CurveSeries } from "@/components/charts/curveData";

interface Props {
  label: string; // what a screen reader calls it
  series: readonly CurveSeries[];
  height?: number;
  xLabel?: string;
  yLabel?: string;
  empty?: string; // said where there is nothing to draw
  faintLabel?: string; // what the series in the background are: "50 sites"
  mark?: number | undefined; // a round to point at
  onPick?: (round: number) => void; // a click on the chart means this round
}

const FAINT = "light-dark(#8fa0ad, #7f90a0)";
const DOTTED_UP_TO = 24; // rounds
const TABLE_ROWS = 60;
const FEW = 12; // series

export function CurveChart(props: Props) {
  const { label, series, height = 280, xLabel = "Round", faintLabel = "Sites" } = props;
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const rows = useMemo(() => curveRows(series), [series]);
  const coloured = useMemo(() => colours(series), [series]);
  const drawn = useMemo(
    () =>
      series
        .map((one, index) => ({ ...one, index, colour: coloured[index] ?? FAINT }))
        .filter((one) => !hidden.has(one.faint ? FAINT : one.name))
        // The foreground is drawn last, above the others.
        .sort((one, other) => Number(other.faint ?? false) - Number(one.faint ?? false)),
    [series, coloured, hidden],
  );
  const ticks = useMemo(() => {
    const values = drawn.flatMap((one) => one.values).filter((value): value is number => value != null && Number.isFinite(value));
    const [least, most] = extremes(values);
    return ticksOf(least, most);
  }, [drawn]);
  const first = rows[0];
  const last = rows.at(-1);
  if (first === undefined || last === undefined) {
    return (
      <div className={classes.empty} style={{ minHeight: height }}>
        {props.empty ?? "No numbers yet. They come with the first round."}
      </div>
    );
  }

  function toggle(name: string): void {
    const next = new Set(hidden);
    if (!next.delete(name)) next.add(name);
    setHidden(next);
  }

  const withDots = rows.length <= DOTTED_UP_TO;
  // Few lines in the background can be told apart; many are a cloud.
  const fog = series.length <= FEW ? 0.85 : 0.4;
  const span = Math.max(1, last.round - first.round);
  return (
    <figure className={classes.frame} style={{ margin: 0 }} aria-label={label}>
      <Legend series={series} colours={coloured} hidden={hidden} toggle={toggle} faintLabel={faintLabel} />
      <LineChart
        className={classes.chart ?? ""}
        aria-hidden
        h={height}
        data={rows}
        dataKey="round"
        series={drawn.map((one) => ({
          name: keyOf(one.index),
          color: one.colour,
          ...(one.dashed ? { strokeDasharray: "6 4" } : {}),
        }))}
        lineProps={({ name }) => {
          const one = series[Number(name.slice(1))];
          const alone = one !== undefined && one.rounds.length === 1;
          return one?.faint
            ? { strokeWidth: 1, strokeOpacity: fog, activeDot: false, dot: alone ? { r: 1.5 } : false }
            : { strokeWidth: 2.2, dot: withDots ? { r: 2.2 } : false, activeDot: { r: 4 } };
        }}
        curveType="linear"
        accessibilityLayer={false}
        gridAxis="x"
        strokeDasharray="0"
        tickLine="none"
        {...(xLabel ? { xAxisLabel: xLabel } : {})}
        {...(props.yLabel ? { yAxisLabel: props.yLabel } : {})}
        valueFormatter={formatMetric}
        xAxisProps={{
          type: "number",
          domain: last.round > first.round ? [first.round, last.round] : [first.round - 1, first.round + 1],
          allowDecimals: false,
          tickFormatter: (round: number) => formatCount(round),
          minTickGap: 24,
          tickCount: Math.min(11, span + 1),
        }}
        yAxisProps={{ domain: [ticks[0] ?? 0, ticks.at(-1) ?? 1], ticks, interval: 0, width: 62 }}
        referenceLines={
          props.mark === undefined ? [] : [{ x: props.mark, color: "gray.6", strokeDasharray: "3 3" }]
        }
        tooltipProps={{
          content: ({ active, label: round }) => {
            const row = active ? rows.find((one) => one.round === round) : undefined;
            return row === undefined ? null : (
              <CurveTip row={row} series={series} colours={coloured} hidden={hidden} faintKey={FAINT} xLabel={xLabel} />
            );
          },
        }}
        lineChartProps={{
          margin: { top: 6, right: 14, bottom: xLabel ? 26 : 4, left: props.yLabel ? 10 : 0 },
          ...(props.onPick
            ? {
                style: { cursor: "pointer" },
                onClick: ({ activeLabel }: { activeLabel?: string | number | undefined }) => {
                  if (activeLabel !== undefined) props.onPick?.(Number(activeLabel));
                },
              }
            : {}),
        }}
      />
      <Table label={label} series={series} xLabel={xLabel} />
    </figure>
  );
}

/** Returns a colour for each series: its own, or the next of the palette. */
function colours(series: readonly CurveSeries[]): string[] {
  let next = 0;
  return series.map((one) => {
    if (one.faint) return FAINT;
    if (one.colour !== undefined) return one.colour;
    next += 1;
    return LINE_COLOURS[(next - 1) % LINE_COLOURS.length] ?? LINE_COLOURS[0];
  });
}

interface LegendProps {
  series: readonly CurveSeries[];
  colours: readonly string[];
  hidden: ReadonlySet<string>;
  toggle: (name: string) => void;
  faintLabel: string;
}

function Legend({ series, colours: coloured, hidden, toggle, faintLabel }: LegendProps) {
  const front = series.map((one, index) => ({ one, index })).filter(({ one }) => !one.faint);
  const faint = series.length - front.length;
  if (series.length < 2) return null;
  return (
    <div className={classes.legend} role="group" aria-label="What is drawn">
      {front.map(({ one, index }) => {
        const value = lastPoint(one)?.value;
        return (
          <Entry
            key={one.name}
            name={one.name}
            colour={coloured[index] ?? FAINT}
            dashed={one.dashed ?? false}
            shown={!hidden.has(one.name)}
            toggle={() => toggle(one.name)}
            {...(value === undefined ? {} : { value: formatMetric(value) })}
          />
        );
      })}
      {faint > 0 && (
        <Entry name={faintLabel} colour={FAINT} shown={!hidden.has(FAINT)} toggle={() => toggle(FAINT)} />
      )}
    </div>
  );
}

interface EntryProps {
  name: string;
  colour: string;
  dashed?: boolean;
  shown: boolean;
  value?: string;
  toggle: () => void;
}

function Entry({ name, colour, dashed, shown, value, toggle }: EntryProps) {
  const theme = useMantineTheme();
  return (
    <UnstyledButton className={classes.entry} aria-pressed={shown} onClick={toggle}>
      <svg className={classes.key} viewBox="0 0 16 8" aria-hidden>
        <line
          x1="0"
          x2="16"
          y1="4"
          y2="4"
          strokeWidth="2.4"
          style={{ stroke: getThemeColor(colour, theme) }}
          {...(dashed ? { strokeDasharray: "4 3" } : {})}
          opacity={shown ? 1 : 0.4}
        />
      </svg>
      {name}
      {value !== undefined && <span className={classes.value}>{value}</span>}
    </UnstyledButton>
  );
}

/** The foreground in numbers, every n-th round where there are many. */
function Table({ label, series, xLabel }: { label: string; series: readonly CurveSeries[]; xLabel: string }) {
  const front = series.filter((one) => !one.faint);
  const rows = curveRows(front);
  const step = Math.ceil(rows.length / TABLE_ROWS);
  return (
    <table className={classes.unseen}>
      <caption>{label}</caption>
      <thead>
        <tr>
          <th scope="col">{xLabel}</th>
          {front.map((one) => (
            <th key={one.name} scope="col">
              {one.name}
            </th>
          ))}
        </tr>
      </thead>
      <tbody>
        {rows
          .filter((_, at) => at % step === 0 || at === rows.length - 1)
          .map((row) => (
            <tr key={row.round}>
              <th scope="row">{row.round}</th>
              {front.map((one, index) => {
                const value = row[keyOf(index)];
                return <td key={one.name}>{value == null ? "–" : formatMetric(value)}</td>;
              })}
            </tr>
          ))}
      </tbody>
    </table>
  );
}
