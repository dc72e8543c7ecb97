import { Text } from "@mantine/core";

import classes from "@/features/sites/parts.module.css";
import type { Labels } from "@/features/sites/sites";

/** Labels, by key. */
export function LabelChips({ labels, none }: { labels: Labels; none?: string }) {
  const entries = Object.entries(labels).toSorted(([one], [other]) => one.localeCompare(other));
  if (entries.length === 0) {
    return (
      <Text span size="sm" c="dimmed">
        {none ?? "–"}
      </Text>
    );
  }
  return (
    <span className={classes.chips}>
      {entries.map(([key, value]) => (
        <span key={key} className={classes.chip} title={`${key}=${value}`}>
          {key}=<b>{value}</b>
        </span>
      ))}
    </span>
  );
}
