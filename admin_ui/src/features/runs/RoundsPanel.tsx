import { Group, Progress, Text } from "@mantine/core";

import type { Round, Run } from "@/api/types";
import { Panel } from "@/components/Panel";
import { RUN_STATES } from "@/components/states";
import { useNow } from "@/components/values";
import { RoundStrip } from "@/features/runs/RoundStrip";
import { secondsLeft } from "@/features/runs/rounds";
import { formatCount, formatShare } from "@/format/sizes";
import { formatSeconds } from "@/format/times";

interface Props {
  run: Run;
  rounds: readonly Round[]; // newest first
  selected: number | undefined;
  select: (round: number) => void;
}

/** How far the run is, how long it still takes, and every round of it as a bar. */
export function RoundsPanel({ run, rounds, selected, select }: Props) {
  const now = useNow(run.state === "running" ? 2000 : 60_000);
  const planned = run.plan.rounds;
  const done = Math.min(run.rounds_completed, planned);
  const left = run.state === "running" ? secondsLeft(run, rounds, now) : null;
  return (
    <Panel>
      <Group justify="space-between" gap="xs" mb={8}>
        <Text size="sm" className="numbers">
          <b>{planned === 0 ? "Evaluation" : `${formatCount(done)} of ${formatCount(planned)} rounds`}</b>
          {planned > 0 && (
            <Text span c="dimmed" inherit>
              {" "}
              · {formatShare(done, planned)}
            </Text>
          )}
        </Text>
        <Text size="sm" c="dimmed" className="numbers">
          {left === null ? said(run) : `about ${formatSeconds(left)} left${run.plan.early_stopping == null ? "" : ", unless it stops early"}`}
        </Text>
      </Group>
      {planned > 0 && (
        <Progress
          value={(100 * done) / planned}
          size={8}
          color={RUN_STATES[run.state].colour}
          aria-label={`Rounds completed: ${done} of ${planned}`}
          mb={rounds.length > 0 ? "md" : 0}
        />
      )}
      {rounds.length > 0 && (
        <RoundStrip rounds={rounds} selected={selected} planned={planned} select={select} />
      )}
    </Panel>
  );
}

function said(run: Run): string {
  if (run.state === "running") return "time left is known after the first round";
  return RUN_STATES[run.state].label;
}
