import { Tooltip } from "@mantine/core";

import type { Schema } from "@/api/types";
import classes from "@/features/sites/parts.module.css";
import { formatCount, formatShare } from "@/format/sizes";

type SiteRecord = Schema<"SiteRecord">;

const OUTCOMES = ["done", "late", "failed"] as const;

/** What became of a site's tasks: the share that was done, as a number and as a bar. */
export function Reliability({ record }: { record: SiteRecord | null | undefined }) {
  const decided = record == null ? 0 : record.done + record.late + record.failed;
  if (record == null || decided === 0) {
    return (
      <Tooltip label="No task of it has ended yet.">
        <span>–</span>
      </Tooltip>
    );
  }
  return (
    <Tooltip label={outcomesInWords(record)}>
      <span className={classes.reliability}>
        <span className={classes.bar} role="img" aria-label={outcomesInWords(record)}>
          {OUTCOMES.filter((outcome) => record[outcome] > 0).map((outcome) => (
            <span key={outcome} className={classes[outcome]} style={{ flex: `${record[outcome]} 0 3px` }} />
          ))}
        </span>
        <span className={classes.share}>{formatShare(record.done, decided)}</span>
      </span>
    </Tooltip>
  );
}

/** Returns e.g. "Asked 120 times: 116 done, 2 late, 2 failed". */
export function outcomesInWords(record: SiteRecord): string {
  const told = OUTCOMES.map((outcome) => `${formatCount(record[outcome])} ${outcome}`);
  if (record.cancelled > 0) told.push(`${formatCount(record.cancelled)} cancelled`);
  return `Asked ${record.asked === 1 ? "once" : `${formatCount(record.asked)} times`}: ${told.join(", ")}`;
}
