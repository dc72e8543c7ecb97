import { Anchor, Text } from "@mantine/core";
import { Link } from "react-router";

import type { Round } from "@/api/types";
import type { Column } from "@/components/DataTable";
import { DataTable } from "@/components/DataTable";
import { StateBadge } from "@/components/StateBadge";
import { ROUND_STATES } from "@/components/states";
import { Ago, Bytes, Lasted } from "@/components/values";
import { roundName, roundSeconds } from "@/features/runs/rounds";
import { formatCount } from "@/format/sizes";
import { plural } from "@/format/words";

interface Props {
  rounds: readonly Round[];
  isWhole: boolean;
  hrefOf: (round: number) => string;
}

/** All rounds of a run, the newest first. */
export function RoundsTable({ rounds, isWhole, hrefOf }: Props) {
  return (
    <DataTable
      label="Rounds"
      rows={rounds}
      rowKey={(round) => round.id}
      columns={columns(hrefOf)}
      href={(round) => hrefOf(round.number)}
      footer={isWhole ? plural(rounds.length, "round") : `${plural(rounds.length, "round")}, older ones are on their way`}
    />
  );
}

function columns(hrefOf: (round: number) => string): Column<Round>[] {
  return [
    {
      key: "number",
      header: "Round",
      width: "minmax(110px, 1.2fr)",
      isTitle: true,
      sortBy: (round) => round.number,
      cell: (round) => (
        <>
          <Anchor component={Link} to={hrefOf(round.number)} preventScrollReset fw={560} inherit className="numbers">
            {roundName(round)}
          </Anchor>
          {round.retry > 0 && (
            <Text size="xs" c="dimmed" fw={400}>
              {plural(round.retry, "try", "tries")} before
            </Text>
          )}
        </>
      ),
    },
    {
      key: "state",
      header: "State",
      width: "minmax(130px, 2fr)",
      sortBy: (round) => round.state,
      cell: (round) => (
        <>
          <StateBadge look={ROUND_STATES[round.state]} />
          {round.state_reason && (
            <Text size="xs" c="dimmed" lineClamp={2} title={round.state_reason}>
              {round.state_reason}
            </Text>
          )}
        </>
      ),
    },
    count("done", "Done", (round) => round.counts?.done ?? 0),
    count("failed", "Failed", (round) => round.counts?.failed ?? 0, "var(--mantine-color-error)"),
    count("late", "Late", (round) => round.counts?.late ?? 0, "var(--mantine-color-orange-light-color)"),
    count("excluded", "Not asked", (round) => round.counts?.excluded ?? 0),
    {
      key: "took",
      header: "Duration",
      width: "minmax(80px, 0.9fr)",
      align: "end",
      sortBy: (round) => (round.closed_at === null ? null : roundSeconds(round, new Date(round.closed_at))),
      cell: (round) => <Lasted from={round.created_at} to={round.closed_at} />,
    },
    {
      key: "bytes",
      header: "Received",
      width: "minmax(74px, 0.8fr)",
      align: "end",
      sortBy: (round) => round.counts?.bytes_up ?? 0,
      cell: (round) => <Bytes value={round.counts?.bytes_up} />,
    },
    {
      key: "closed",
      header: "Closed",
      width: "minmax(86px, 0.9fr)",
      align: "end",
      sortBy: (round) => round.closed_at,
      cell: (round) => <Ago at={round.closed_at} never="open" />,
    },
  ];
}

function count(key: string, header: string, of: (round: Round) => number, colour?: string): Column<Round> {
  return {
    key,
    header,
    width: "minmax(52px, 0.6fr)",
    align: "end",
    sortBy: of,
    cell: (round) => {
      const value = of(round);
      if (value === 0) return <Text span c="dimmed" inherit>–</Text>;
      return (
        <Text span inherit {...(colour === undefined ? {} : { fw: 600, style: { color: colour } })}>
          {formatCount(value)}
        </Text>
      );
    },
  };
}
