/** What can be done with a run, by who may. */
import { Button, Group, Modal, Radio, Stack, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import {
  IconArrowsDiff,
  IconGitFork,
  IconPlayerPause,
  IconPlayerPlay,
  IconPlayerStop,
  IconReceipt,
} from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link } from "react-router";

import { keys } from "@/api/keys";
import type { Run } from "@/api/types";
import { ConfirmButton, useAction } from "@/components/actions";
import { Problem } from "@/components/Problem";
import { isLive } from "@/components/states";
import { useMay } from "@/features/federations/federations";
import { cancelRun, pauseRun, resumeRun, startRun } from "@/features/runs/runs";

interface Props {
  slug: string;
  run: Run;
}

const ICON = { size: 16, "aria-hidden": true } as const;

export function RunActions({ slug, run }: Props) {
  const mayRun = useMay("run");
  const changed = useChanged(slug, run.id);
  const here = `/f/${slug}/runs/${run.id}`;
  const isAtWork = run.state === "queued" || run.state === "running";
  return (
    <>
      {mayRun && run.state === "draft" && (
        <Act label="Start" icon={<IconPlayerPlay {...ICON} />} run={() => startRun(slug, run.id)} after={changed} main />
      )}
      {mayRun && (run.state === "paused" || run.pausing) && (
        <Act
          label={run.pausing ? "Do not pause" : "Resume"}
          icon={<IconPlayerPlay {...ICON} />}
          run={() => resumeRun(slug, run.id)}
          after={changed}
          main
        />
      )}
      {mayRun && isAtWork && <PauseButton slug={slug} run={run} after={changed} />}
      {mayRun && (
        <Button variant="default" component={Link} to={`${here}/fork`} leftSection={<IconGitFork {...ICON} />}>
          Fork
        </Button>
      )}
      <Button
        variant="default"
        component={Link}
        to={`/f/${slug}/runs/compare?run=${run.id}`}
        leftSection={<IconArrowsDiff {...ICON} />}
      >
        Compare
      </Button>
      <Button variant="default" component={Link} to={`${here}/receipts`} leftSection={<IconReceipt {...ICON} />}>
        Receipts
      </Button>
      {mayRun && isLive(run.state) && (
        <ConfirmButton
          label="Cancel run"
          title={`Cancel the run ${run.name}?`}
          colour="red"
          icon={<IconPlayerStop {...ICON} />}
          run={() => cancelRun(slug, run.id)}
          after={changed}
          done="The run is cancelled."
        >
          It ends for good, and its sites stop within one heartbeat. Completed rounds and their checkpoints stay; a
          fork can go on from any of them.
        </ConfirmButton>
      )}
    </>
  );
}

/** Returns what makes all that is known of the run stale. */
function useChanged(slug: string, runId: string): () => Promise<unknown> {
  const client = useQueryClient();
  return () =>
    Promise.all([
      client.invalidateQueries({ queryKey: keys.run(slug, runId) }),
      client.invalidateQueries({ queryKey: keys.domain(slug, "runs") }),
    ]);
}

interface ActProps {
  label: string;
  icon: React.ReactNode;
  run: () => Promise<Run>;
  after: () => unknown;
  main?: boolean;
}

function Act({ label, icon, run, after, main = false }: ActProps) {
  const action = useAction({ run, after });
  return (
    <Button
      variant={main ? "filled" : "default"}
      leftSection={icon}
      loading={action.isPending}
      onClick={() => action.mutate()}
    >
      {label}
    </Button>
  );
}

type Way = "finish" | "burn";

function PauseButton({ slug, run, after }: Props & { after: () => unknown }) {
  const [opened, { open, close }] = useDisclosure(false);
  const [way, setWay] = useState<Way>(run.pausing ? "burn" : "finish");
  const action = useAction({
    run: () => pauseRun(slug, run.id, way),
    quiet: true,
    after: () => {
      close();
      return after();
    },
  });
  return (
    <>
      <Button variant="default" leftSection={<IconPlayerPause {...ICON} />} onClick={open}>
        {run.pausing ? "Pause at once" : "Pause"}
      </Button>
      <Modal opened={opened} onClose={close} title={<Text fw={640}>Pause the run {run.name}?</Text>}>
        <form
          onSubmit={(event) => {
            event.preventDefault();
            action.mutate();
          }}
        >
          <Stack>
            <Radio.Group label="The open round" value={way} onChange={(value) => setWay(value)}>
              <Stack gap="sm" mt="xs">
                <Radio
                  value="finish"
                  label="Let it finish"
                  description="The run pauses when the round is closed. No work is lost."
                />
                <Radio
                  value="burn"
                  label="Stop it now"
                  description="Sites stop within one heartbeat. The round is held again when the run goes on."
                />
              </Stack>
            </Radio.Group>
            {action.isError && <Problem error={action.error} />}
            <Group justify="flex-end" gap="xs">
              <Button variant="default" onClick={close}>
                Not now
              </Button>
              <Button type="submit" loading={action.isPending}>
                Pause
              </Button>
            </Group>
          </Stack>
        </form>
      </Modal>
    </>
  );
}
