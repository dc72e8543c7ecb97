/**
 * The whole run at a glance: a bar for each round, as tall as it took, coloured by what became of
 * it. With the keyboard: arrows go from bar to bar, Enter opens the round.
 */
import { Box, Group, Text } from "@mantine/core";
import { useElementSize } from "@mantine/hooks";
import type { KeyboardEvent } from "react";
import { useId, useMemo, useState } from "react";

import type { Round } from "@/api/types";
import { useNow } from "@/components/values";
import classes from "@/features/runs/RoundStrip.module.css";
import type { Outcome } from "@/features/runs/rounds";
import { OUTCOMES } from "@/features/runs/rounds";
import type { Bar } from "@/features/runs/strip";
import { barSays, bars, roundsPerBar } from "@/features/runs/strip";
import { formatSeconds } from "@/format/times";

const HEIGHT = 54; // px
const LEAST_WIDTH = 2.5; // px of a bar with its gap
const MOST_WIDTH = 56;

interface Props {
  rounds: readonly Round[]; // newest first
  selected: number | undefined;
  planned: number;
  select: (round: number) => void;
}

export function RoundStrip({ rounds, selected, planned, select }: Props) {
  const now = useNow(5000);
  const { ref, width } = useElementSize<HTMLDivElement>();
  const id = useId();
  // What is still to come keeps its place, so that bars do not shrink while the run goes on.
  const count = Math.max(planned, rounds.length);
  const each = roundsPerBar(count, Math.floor(width / LEAST_WIDTH));
  const all = useMemo(() => bars(rounds, each, now), [rounds, each, now]);
  const [active, setActive] = useState<number | null>(null);
  const shown = active === null ? undefined : all[Math.min(active, all.length - 1)];
  // Older rounds that are not there yet have their places as well.
  const absent = Math.floor(((rounds.at(-1)?.number ?? 1) - 1) / each);
  const places = Math.max(absent + all.length, Math.ceil(count / each));
  const step = places === 0 ? 0 : width / places;
  const chosen = all.findIndex((bar) => holds(bar, selected));

  function onKeyDown(event: KeyboardEvent): void {
    const from = active ?? (chosen >= 0 ? chosen : all.length - 1);
    const to = moved(event.key, from, all.length);
    if (to !== null) setActive(to);
    else if ((event.key === "Enter" || event.key === " ") && shown !== undefined) select(shown.round.number);
    else return;
    event.preventDefault();
  }

  return (
    <div>
      <div
        ref={ref}
        className={classes.strip}
        role="listbox"
        tabIndex={0}
        aria-label="Rounds, the oldest first"
        aria-activedescendant={shown === undefined ? undefined : `${id}-${all.indexOf(shown)}`}
        style={{ height: HEIGHT + 8 }}
        onKeyDown={onKeyDown}
        onFocus={() => setActive((before) => before ?? (chosen >= 0 ? chosen : all.length - 1))}
        onBlur={() => setActive(null)}
        onPointerLeave={() => setActive(null)}
      >
        {all.map((bar, index) => (
          <div
            key={bar.first.id}
            id={`${id}-${index}`}
            role="option"
            aria-selected={index === chosen}
            aria-label={barSays(bar)}
            className={classes.slot}
            data-active={bar === shown || undefined}
            style={{ insetInlineStart: (absent + index) * step, width: step }}
            onPointerEnter={() => setActive(index)}
            onClick={() => select(bar.round.number)}
          >
            <div
              className={classes.bar}
              data-outcome={bar.outcome}
              data-evaluation={bar.isEvaluation || undefined}
              style={{
                height: bar.height * HEIGHT,
                marginInline: Math.max(gap(step), (step - MOST_WIDTH) / 2),
                ...(bar.outcome === "partly" ? { "--missing": `${Math.max(14, 100 * bar.missing)}%` } : {}),
              }}
            />
            <div
              className={classes.mark}
              data-outcome={bar.outcome}
              style={{ insetInline: Math.max(0, (step - MOST_WIDTH) / 2) }}
            />
          </div>
        ))}
        {places > absent + all.length && (
          <div className={classes.coming} style={{ insetInlineStart: (absent + all.length) * step, insetInlineEnd: 0 }} />
        )}
      </div>
      <Group justify="space-between" gap="md" mt={6}>
        <Group gap={14}>
          {present(all).map((outcome) => (
            <Key key={outcome} outcome={outcome} text={OUTCOMES[outcome]} />
          ))}
          {all.some((bar) => bar.isEvaluation) && <Key evaluation text="evaluation" />}
        </Group>
        <Text size="xs" c={shown === undefined ? "dimmed" : ""} className="numbers">
          {shown === undefined ? scale(all) : barSays(shown)}
        </Text>
      </Group>
    </div>
  );
}

function Key({ outcome, evaluation, text }: { outcome?: Outcome; evaluation?: true; text: string }) {
  return (
    <Group gap={6} wrap="nowrap">
      <Box className={classes.swatch} data-outcome={outcome} data-evaluation={evaluation} />
      <Text size="xs" c="dimmed">
        {text}
      </Text>
    </Group>
  );
}

/** Returns the space at each side of a bar. */
function gap(step: number): number {
  return step > 5 ? 1.5 : step > 3 ? 0.5 : 0.25;
}

function holds(bar: Bar, number: number | undefined): boolean {
  return number !== undefined && bar.first.number <= number && number <= bar.round.number;
}

function moved(key: string, from: number, count: number): number | null {
  switch (key) {
    case "ArrowLeft":
      return Math.max(0, from - 1);
    case "ArrowRight":
      return Math.min(count - 1, from + 1);
    case "PageUp":
      return Math.max(0, from - 10);
    case "PageDown":
      return Math.min(count - 1, from + 10);
    case "Home":
      return 0;
    case "End":
      return count - 1;
    default:
      return null;
  }
}

function scale(all: readonly Bar[]): string {
  if (all.length === 0) return "";
  const longest = Math.max(...all.map((bar) => bar.seconds));
  const each = Math.max(...all.map((bar) => bar.count));
  return `Height by duration, up to ${formatSeconds(longest)}${each > 1 ? `; up to ${each} rounds a bar` : ""}`;
}

const SHOWN: readonly Outcome[] = ["good", "partly", "failed", "cancelled", "open"];

function present(all: readonly Bar[]): Outcome[] {
  return SHOWN.filter((outcome) => all.some((bar) => bar.outcome === outcome));
}
