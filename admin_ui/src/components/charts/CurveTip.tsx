import { getThemeColor, useMantineTheme } from "@mantine/core";
import { useActiveTooltipCoordinate, useYAxisInverseScale } from "recharts";

import classes from "@/components/charts/charts.module.css";
import type { CurveRow, CurveSeries } from "@/components/charts/curveData";
import { keyOf, nearest } from "@/components/charts/curveData";
import { formatCount, formatMetric } from "@/format/sizes";

interface Props {
  row: CurveRow;
  series: readonly CurveSeries[];
  colours: readonly string[];
  hidden: ReadonlySet<string>;
  faintKey: string; // in `hidden` for the whole background
  xLabel: string;
}

const MOST = 8;

/** What the series have at the round under the pointer; of many sites those next to it. */
export function CurveTip({ row, series, colours, hidden, faintKey, xLabel }: Props) {
  const theme = useMantineTheme();
  const pointer = useActiveTooltipCoordinate();
  const valueAt = useYAxisInverseScale();
  const value = pointer?.y === undefined ? undefined : valueAt?.(pointer.y);
  const shown: CurveRow = { round: row.round };
  series.forEach((one, index) => {
    const at = row[keyOf(index)];
    if (at != null && !hidden.has(one.faint ? faintKey : one.name)) shown[keyOf(index)] = at;
  });
  const { entries, left } = nearest(shown, series, typeof value === "number" ? value : undefined, MOST);
  if (entries.length === 0) return null;
  return (
    <div className={classes.tip}>
      <div className={classes.tipTitle}>
        {xLabel} {formatCount(row.round)}
      </div>
      {entries.map((entry) => (
        <div key={entry.index} className={classes.tipRow}>
          <svg className={classes.key} viewBox="0 0 16 8" aria-hidden>
            <line
              x1="0"
              x2="16"
              y1="4"
              y2="4"
              strokeWidth="2.4"
              style={{ stroke: getThemeColor(colours[entry.index], theme) }}
            />
          </svg>
          <span className={classes.tipName}>{series[entry.index]?.name}</span>
          <span className="numbers">{formatMetric(entry.value)}</span>
        </div>
      ))}
      {left > 0 && <div className={classes.tipMore}>and {left} more</div>}
    </div>
  );
}
