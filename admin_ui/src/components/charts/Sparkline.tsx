import { sparkPoints } from "@/components/charts/curveData";
import classes from "@/components/charts/charts.module.css";

interface Props {
  values: readonly (number | null)[];
  label: string; // says what it is and how it ends
  width?: number;
  height?: number;
}

/** A line without axes, as tall as a line of text: only its shape is meant. */
export function Sparkline({ values, label, width = 96, height = 26 }: Props) {
  const points = sparkPoints(values, width, height, 3);
  const last = points.at(-1);
  if (last === undefined) return <span className={classes.none}>–</span>;
  return (
    <svg
      className={classes.spark}
      viewBox={`0 0 ${width} ${height}`}
      width={width}
      height={height}
      role="img"
      aria-label={label}
    >
      <polyline points={points.map(({ x, y }) => `${x.toFixed(1)},${y.toFixed(1)}`).join(" ")} />
      <circle cx={last.x} cy={last.y} r={2.3} />
    </svg>
  );
}
