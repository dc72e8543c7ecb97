import { Anchor, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import type { Round, Run } from "@/api/types";
import { FailureGroups } from "@/features/runs/FailureGroups";
import { failuresOf } from "@/features/runs/parts";
import { roundName } from "@/features/runs/rounds";
import { roundQuery } from "@/features/runs/runs";
import { plural } from "@/format/words";

const LATELY = 3; // rounds whose failures are told in full

interface Props {
  slug: string;
  run: Run;
  rounds: readonly Round[]; // newest first
  hrefOf: (round: number) => string;
}

/** What failed at sites lately, with its traceback; a line where it was long ago. */
export function RunFailures({ slug, run, rounds, hrefOf }: Props) {
  const failing = rounds.filter((round) => (round.counts?.failed ?? 0) > 0);
  const newest = failing[0];
  if (newest === undefined) return null;
  const isLately = run.state === "failed" || rounds.indexOf(newest) < LATELY;
  if (isLately) return <Told slug={slug} run={run} round={newest} hrefOf={hrefOf} />;
  return (
    <Text size="sm" c="dimmed">
      Parts failed in {plural(failing.length, "round")} of {rounds.length}, last in{" "}
      <Anchor component={Link} to={hrefOf(newest.number)} preventScrollReset inherit underline="always">
        {roundName(newest).toLowerCase()}
      </Anchor>
      .
    </Text>
  );
}

function Told({ slug, run, round, hrefOf }: { slug: string; run: Run; round: Round; hrefOf: Props["hrefOf"] }) {
  const query = useQuery(roundQuery(slug, run.id, round.number));
  const groups = query.data === undefined ? [] : failuresOf(query.data);
  if (groups.length === 0) {
    return (
      <Text size="sm">
        {plural(round.counts?.failed ?? 0, "site")} failed in{" "}
        <Anchor component={Link} to={hrefOf(round.number)} preventScrollReset inherit underline="always">
          {roundName(round).toLowerCase()}
        </Anchor>
        .
      </Text>
    );
  }
  return <FailureGroups groups={groups} where={`in ${roundName(round).toLowerCase()}`} />;
}
