/** A round as it goes on: every site's part in it, live. */
import { Group, ScrollArea, Stack, Text } from "@mantine/core";
import { keepPreviousData, useQuery } from "@tanstack/react-query";

import type { Round, RoundDetail, Run } from "@/api/types";
import { Panel } from "@/components/Panel";
import { QueryView } from "@/components/QueryView";
import { StateBadge } from "@/components/StateBadge";
import { ROUND_STATES, TASK_STATES, isOpen } from "@/components/states";
import { Lasted, useNow } from "@/components/values";
import { SecureSteps } from "@/features/runs/SecureSteps";
import { SitePart } from "@/features/runs/SitePart";
import parts from "@/features/runs/SitePart.module.css";
import classes from "@/features/runs/RoundPanel.module.css";
import { excludedByReason, ordered, tally } from "@/features/runs/parts";
import { roundName } from "@/features/runs/rounds";
import { roundQuery } from "@/features/runs/runs";
import { formatCount } from "@/format/sizes";
import { formatRelative } from "@/format/times";
import { plural } from "@/format/words";

interface Props {
  slug: string;
  run: Run;
  round: Round;
}

export function RoundPanel({ slug, run, round }: Props) {
  // Until the next round's sites are there, those of the one before stay.
  const query = useQuery({ ...roundQuery(slug, run.id, round.number), placeholderData: keepPreviousData });
  const shown = query.data ?? round;
  return (
    <Panel title={roundName(shown)} h="100%" aside={<StateBadge look={ROUND_STATES[shown.state]} />} className={`panel ${classes.panel}`}>
      <QueryView query={query} rows={6}>
        {(detail) => (
          <Stack gap="sm">
            <RoundHead round={detail} />
            {detail.secure != null && <SecureSteps round={detail} secure={detail.secure} />}
            <ScrollArea.Autosize mah={430} type="auto" offsetScrollbars viewportProps={{ tabIndex: 0, "aria-label": "Sites in the round", role: "region" }}>
              <PartList slug={slug} round={detail} />
            </ScrollArea.Autosize>
          </Stack>
        )}
      </QueryView>
    </Panel>
  );
}

/** What the round has and what it needs, in numbers and as a bar of its sites. */
export function RoundHead({ round }: { round: RoundDetail }) {
  const own = round.tasks.filter((task) => !task.evaluator);
  const done = own.filter((task) => task.state === "done").length;
  const counted = tally(own);
  const wanted = round.target ?? own.length;
  const needs = round.target === null || round.target === undefined ? `at least ${round.threshold}` : `${wanted} wanted, at least ${round.threshold}`;
  return (
    <div>
      <Group justify="space-between" gap="xs" mb={6}>
        <Text size="sm">
          <b className="numbers">
            {done} of {wanted}
          </b>{" "}
          answers
          <Text span c="dimmed" inherit>
            {" "}
            ({needs})
          </Text>
        </Text>
        <Text size="sm" c="dimmed">
          <Timing round={round} />
        </Text>
      </Group>
      {own.length > 0 && (
        <>
          <div className={classes.bar} aria-hidden>
            {counted.map(({ state, count }) => (
              <span key={state} data-state={state} style={{ flexGrow: count }} />
            ))}
          </div>
          <Group gap={14} mt={6}>
            {counted.map(({ state, count }) => (
              <span key={state} className={classes.key}>
                <span className={classes.swatch} data-state={state} aria-hidden />
                {count} {TASK_STATES[state].label}
              </span>
            ))}
          </Group>
        </>
      )}
      {round.state_reason && (
        <Text size="sm" mt="xs">
          {round.state_reason}
        </Text>
      )}
    </div>
  );
}

function Timing({ round }: { round: RoundDetail }) {
  const now = useNow();
  if (!isOpen(round.state)) {
    return (
      <>
        took <Lasted from={round.created_at} to={round.closed_at} />
      </>
    );
  }
  return (
    <>
      <Lasted from={round.created_at} />, deadline {formatRelative(new Date(round.deadline_at), now)}
    </>
  );
}

/** Every site's part, and who was not asked. */
export function PartList({ slug, round }: { slug: string; round: RoundDetail }) {
  const tasks = ordered(round.tasks);
  const excluded = round.excluded ?? [];
  return (
    <>
      {tasks.length === 0 ? (
        <Text size="sm" c="dimmed">
          No site has been asked yet.
        </Text>
      ) : (
        <ul className={parts.list}>
          {tasks.map((task) => (
            <SitePart key={task.id} slug={slug} task={task} />
          ))}
        </ul>
      )}
      {excluded.length > 0 && (
        <details className={classes.excluded}>
          <summary>{plural(excluded.length, "site was", "sites were")} not asked</summary>
          <dl>
            {excludedByReason(excluded).map(({ reason, sites }) => (
              <div key={reason}>
                <dt>
                  {reason} ({formatCount(sites.length)})
                </dt>
                <dd>{sites.join(", ")}</dd>
              </div>
            ))}
          </dl>
        </details>
      )}
    </>
  );
}
