/** Values in a line of text: times, sizes, digests. Each shows the whole of it to who looks closer. */
import { Group, Text, Tooltip } from "@mantine/core";
import { useEffect, useState } from "react";

import { Copy } from "@/components/Command";
import { formatBytes, formatCount } from "@/format/sizes";
import { formatFully, formatRelative, formatSeconds } from "@/format/times";
import { shortId } from "@/format/words";

const TICK_MS = 10_000;

/** Returns the time now, anew every ten seconds (or as often as asked). */
export function useNow(everyMs = TICK_MS): Date {
  const [now, setNow] = useState(() => new Date());
  useEffect(() => {
    const timer = window.setInterval(() => setNow(new Date()), everyMs);
    return () => window.clearInterval(timer);
  }, [everyMs]);
  return now;
}

/** "3 min ago", with the local date and time in a tooltip. */
export function Ago({ at, never = "never" }: { at: string | null | undefined; never?: string }) {
  const now = useNow();
  if (at == null) return <span>{never}</span>;
  const date = new Date(at);
  return (
    <Tooltip label={formatFully(date)}>
      <time dateTime={at}>{formatRelative(date, now)}</time>
    </Tooltip>
  );
}

/** How long from one time to another, or until now. */
export function Lasted({ from, to }: { from: string | null | undefined; to?: string | null | undefined }) {
  if (from == null) return <span>–</span>;
  if (to == null) return <Ticking from={from} />;
  return <Span from={from} end={new Date(to)} />;
}

function Ticking({ from }: { from: string }) {
  return <Span from={from} end={useNow(1000)} />;
}

function Span({ from, end }: { from: string; end: Date }) {
  return <span className="numbers">{formatSeconds((end.getTime() - new Date(from).getTime()) / 1000)}</span>;
}

/** "1.4 MB", with the exact number in a tooltip. */
export function Bytes({ value }: { value: number | null | undefined }) {
  if (value == null) return <span>–</span>;
  return (
    <Tooltip label={`${formatCount(value)} bytes`}>
      <span className="numbers">{formatBytes(value)}</span>
    </Tooltip>
  );
}

/** The beginning of a digest, an id or a fingerprint; the whole in a tooltip and on the clipboard. */
export function Digest({
  value,
  name = "digest",
  characters = 10,
}: {
  value: string;
  name?: string;
  characters?: number;
}) {
  return (
    <Group gap={2} wrap="nowrap" display="inline-flex">
      <Tooltip label={<span className="mono">{value}</span>}>
        <Text span className="mono" inherit>
          {shortId(value, characters)}
        </Text>
      </Tooltip>
      <Copy text={value} label={`Copy the ${name}`} />
    </Group>
  );
}
