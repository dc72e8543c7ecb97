import { Stack } from "@mantine/core";

import type { TaskView } from "@/api/types";
import type { Fact } from "@/components/Facts";
import { Facts } from "@/components/Facts";
import { Ago, Digest } from "@/components/values";
import { Excerpt } from "@/features/sites/Excerpt";
import { formatCount } from "@/format/sizes";

/** Why a task ended as it did: the error, where in the trainer, and what the site logged; what it sent. */
export function TaskDetail({ task }: { task: TaskView }) {
  const hasFailed = task.state === "failed";
  return (
    <Stack gap="sm" py="xs">
      {task.state_reason && (
        <Excerpt title={hasFailed ? "Error" : "Reason"} text={task.state_reason} isError={hasFailed} />
      )}
      {task.traceback && <Excerpt title="Traceback" text={task.traceback} />}
      {task.log && <Excerpt title="Log" text={task.log} />}
      <Facts facts={factsOf(task)} />
    </Stack>
  );
}

function factsOf(task: TaskView): Fact[] {
  const facts: Fact[] = [["Attempts", formatCount(task.attempts)]];
  if (task.state === "failed" && !task.traceback) facts.push(["Traceback", "the site told none"]);
  if (task.num_examples !== null) facts.push(["Examples", formatCount(task.num_examples)]);
  if (task.claimed_at !== null) facts.push(["Claimed", <Ago key="claimed" at={task.claimed_at} />]);
  if (task.finished_at !== null) facts.push(["Finished", <Ago key="finished" at={task.finished_at} />]);
  if (task.update_digest !== null) {
    facts.push(["Update", <Digest key="update" value={task.update_digest} characters={16} />]);
  }
  return facts;
}
