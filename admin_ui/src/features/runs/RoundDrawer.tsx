/** One round opened: every site's part, what it made of them, and how to get to its neighbours. */
import { ActionIcon, Anchor, Drawer, Group, Stack, Text, Tooltip } from "@mantine/core";
import { IconChevronLeft, IconChevronRight } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import type { Round, RoundDetail, Run } from "@/api/types";
import { Facts } from "@/components/Facts";
import { QueryView } from "@/components/QueryView";
import { StateBadge } from "@/components/StateBadge";
import { ROUND_STATES } from "@/components/states";
import { Ago, Bytes, Digest } from "@/components/values";
import { FailureGroups } from "@/features/runs/FailureGroups";
import { PartList, RoundHead } from "@/features/runs/RoundPanel";
import { SecureSteps } from "@/features/runs/SecureSteps";
import { failuresOf } from "@/features/runs/parts";
import { roundName } from "@/features/runs/rounds";
import { roundQuery } from "@/features/runs/runs";
import { formatMoment } from "@/format/times";

interface Props {
  slug: string;
  run: Run;
  number: number;
  rounds: readonly Round[];
  select: (round: number | undefined) => void;
}

export function RoundDrawer({ slug, run, number, rounds, select }: Props) {
  const query = useQuery(roundQuery(slug, run.id, number));
  const newest = rounds[0]?.number ?? number;
  const round = query.data ?? rounds.find((one) => one.number === number);
  return (
    <Drawer
      opened
      onClose={() => select(undefined)}
      position="right"
      size="min(720px, 100%)"
      overlayProps={{ backgroundOpacity: 0.25 }}
      transitionProps={{ duration: 120 }}
      title={
        <Group gap="sm">
          <Text fw={640} fz="lg">
            {round === undefined ? `Round ${number}` : roundName(round)}
          </Text>
          {round !== undefined && <StateBadge look={ROUND_STATES[round.state]} />}
        </Group>
      }
      closeButtonProps={{ "aria-label": "Close the round" }}
    >
      <Stack gap="lg">
        <Group justify="space-between">
          <Text size="sm" c="dimmed">
            of run {run.name}
          </Text>
          <Group gap={4}>
            <Step label="The round before" to={number - 1} least={1} most={newest} select={select} />
            <Step label="The round after" to={number + 1} least={1} most={newest} select={select} />
          </Group>
        </Group>
        <QueryView query={query} rows={8}>
          {(detail) => <Detail slug={slug} run={run} round={detail} tries={rounds.filter((one) => one.number === number && one.id !== detail.id)} />}
        </QueryView>
      </Stack>
    </Drawer>
  );
}

interface StepProps {
  label: string;
  to: number;
  least: number;
  most: number;
  select: (round: number) => void;
}

function Step({ label, to, least, most, select }: StepProps) {
  const Icon = label.endsWith("before") ? IconChevronLeft : IconChevronRight;
  return (
    <Tooltip label={label}>
      <ActionIcon variant="default" aria-label={label} disabled={to < least || to > most} onClick={() => select(to)}>
        <Icon size={16} aria-hidden />
      </ActionIcon>
    </Tooltip>
  );
}

function Detail({ slug, run, round, tries }: { slug: string; run: Run; round: RoundDetail; tries: readonly Round[] }) {
  const failures = failuresOf(round);
  const model = `/f/${slug}/models/${run.plan.model}`;
  return (
    <Stack gap="lg">
      <RoundHead round={round} />
      {round.secure != null && <SecureSteps round={round} secure={round.secure} />}
      {failures.length > 0 && <FailureGroups groups={failures} />}
      <section aria-label="Sites">
        <Text component="h3" fw={600} size="sm" mt={0} mb={4}>
          Sites
        </Text>
        <PartList slug={slug} round={round} />
      </section>
      <Facts
        facts={[
          ["Opened", formatMoment(new Date(round.created_at))],
          ["Deadline", formatMoment(new Date(round.deadline_at))],
          ["Closed", <Ago key="closed" at={round.closed_at} never="still open" />],
          ["Updates received", <Bytes key="bytes" value={round.counts?.bytes_up} />],
          [
            "Trained on",
            <Anchor key="base" inherit component={Link} to={`${model}/checkpoints/${round.base_checkpoint_id}`}>
              the checkpoint before
            </Anchor>,
          ],
          [
            "Made",
            round.checkpoint_id === null ? (
              "no checkpoint"
            ) : (
              <Anchor key="made" inherit component={Link} to={`${model}/checkpoints/${round.checkpoint_id}`}>
                this checkpoint
              </Anchor>
            ),
          ],
          ["Round id", <Digest key="id" value={round.id} name="round's id" characters={13} />],
          [
            "Receipt",
            <Anchor key="receipt" inherit component={Link} to={`/f/${slug}/runs/${run.id}/receipts?round=${round.number}`}>
              all receipts of the run
            </Anchor>,
          ],
        ]}
      />
      {tries.length > 0 && (
        <section aria-label="Earlier tries">
          <Text component="h3" fw={600} size="sm" mt={0} mb={4}>
            Earlier tries
          </Text>
          <Stack gap={6}>
            {tries.map((one) => (
              <Group key={one.id} gap="sm" wrap="nowrap" align="baseline">
                <StateBadge look={ROUND_STATES[one.state]} />
                <Text size="sm">
                  {one.state_reason ?? "no reason was told"} · <Ago at={one.closed_at} />
                </Text>
              </Group>
            ))}
          </Stack>
        </section>
      )}
    </Stack>
  );
}
