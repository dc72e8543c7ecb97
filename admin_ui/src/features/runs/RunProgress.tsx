import { Progress, Text } from "@mantine/core";

import type { Run } from "@/api/types";
import { RUN_STATES } from "@/components/states";
import classes from "@/features/runs/RunsPage.module.css";
import { formatCount } from "@/format/sizes";

/** Rounds completed of those planned, in numbers and as a bar. */
export function RunProgress({ run }: { run: Run }) {
  const { rounds } = run.plan;
  if (rounds === 0) return <span>evaluation</span>;
  const share = (100 * Math.min(run.rounds_completed, rounds)) / rounds;
  return (
    <div className={classes.progress}>
      <span>
        {formatCount(run.rounds_completed)}
        <Text span c="dimmed" inherit>
          {" "}
          / {formatCount(rounds)}
        </Text>
      </span>
      <Progress value={share} size={5} color={RUN_STATES[run.state].colour} aria-hidden />
    </div>
  );
}
