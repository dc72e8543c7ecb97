/** The check of a whole log in this browser, and the head to keep for the next time. */
import { Alert, Button, Collapse, Group, Progress, Stack, Text, Textarea } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconAlertTriangle, IconShieldCheck } from "@tabler/icons-react";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";

import { Command, Copy } from "@/components/Command";
import { Panel } from "@/components/Panel";
import { Problem } from "@/components/Problem";
import classes from "@/features/audit/audit.module.css";
import type { Log } from "@/features/audit/audit";
import { auditCommand, logKey } from "@/features/audit/audit";
import type { Chain } from "@/features/audit/chain";
import { BrokenChainError, readHeads } from "@/features/audit/chain";
import type { Progress as Done } from "@/features/audit/stream";
import { checkLog } from "@/features/audit/stream";
import { formatMoment } from "@/format/times";
import { plural } from "@/format/words";

interface Result {
  chain: Chain | null;
  kept: number; // heads that were pasted
}

export function VerifyLog({ log }: { log: Log }) {
  const [pasted, setPasted] = useState("");
  const [progress, setProgress] = useState<Done>();
  const [opened, { toggle }] = useDisclosure(false);
  const client = useQueryClient();
  const running = useRef<AbortController>(null);
  useEffect(() => () => running.current?.abort(), []);
  const { heads, strange } = readHeads(pasted);
  const check = useMutation({
    mutationFn: async (): Promise<Result> => {
      running.current?.abort();
      const controller = new AbortController();
      running.current = controller;
      return { chain: await checkLog(log, heads, setProgress, controller.signal), kept: heads.length };
    },
    onSettled: () => {
      setProgress(undefined);
      return client.invalidateQueries({ queryKey: logKey(log) }); // reading it was an entry
    },
  });
  return (
    <Panel title="Verify the log" mb="md">
      <Stack gap="sm">
        <Group justify="space-between" gap="sm">
          <Text size="sm" c="dimmed" maw={720}>
            This browser reads the whole log, recomputes the SHA-256 of every entry and checks that each one names the entry
            before it. Reading it is an entry of its own.
          </Text>
          <Group gap="xs">
            <Button variant="default" size="sm" onClick={toggle} aria-expanded={opened}>
              With a head of before
            </Button>
            <Button
              leftSection={<IconShieldCheck size={16} aria-hidden />}
              onClick={() => check.mutate()}
              loading={check.isPending}
              disabled={strange.length > 0}
            >
              Verify here
            </Button>
          </Group>
        </Group>
        <Collapse expanded={opened}>
          <Stack gap="sm">
            <Textarea
              label="Heads that you noted before"
              description="One a line, NUMBER:DIGEST. Each must still be where it was: only this shows that history was not written anew."
              placeholder={`120:${"91ab".repeat(16)}`}
              value={pasted}
              onChange={(event) => setPasted(event.currentTarget.value)}
              error={strange[0] === undefined ? null : `this is no head: ${strange[0].slice(0, 90)}`}
              autosize
              minRows={2}
              maxRows={8}
              classNames={{ input: "mono" }}
            />
            <Text size="sm">Outside the browser:</Text>
            <Command text={auditCommand(log, "verify") + (heads[0] ? ` --head ${heads[0].number}:${heads[0].digest}` : "")} />
          </Stack>
        </Collapse>
        {progress !== undefined && (
          <Progress value={(100 * progress.done) / Math.max(progress.all, 1)} aria-label="Entries checked" />
        )}
        <div aria-live="polite">
          {check.isError && <Failed error={check.error} />}
          {check.isSuccess && <Held result={check.data} />}
        </div>
      </Stack>
    </Panel>
  );
}

function Failed({ error }: { error: Error }) {
  if (!(error instanceof BrokenChainError)) return <Problem error={error} />;
  return (
    <Alert color="red" title="The log does not hold" icon={<IconAlertTriangle size={18} />} role="alert">
      <Text size="sm" style={{ overflowWrap: "anywhere" }}>
        {error.message.charAt(0).toUpperCase() + error.message.slice(1)}.
      </Text>
      <Text size="sm" mt={4}>
        Everything before it holds. Export the log and keep it before anybody changes more.
      </Text>
    </Alert>
  );
}

function Held({ result: { chain, kept } }: { result: Result }) {
  if (chain === null) return <Alert color="gray" title="There are no entries to check" />;
  const head = `${chain.head.number}:${chain.head.digest}`;
  return (
    <Alert color="green" title="The log holds together" icon={<IconShieldCheck size={18} />}>
      <Text size="sm">
        {plural(chain.head.number, "entry", "entries")}, from {formatMoment(new Date(chain.since))} to{" "}
        {formatMoment(new Date(chain.until))}, each as it was written
        {kept > 0 ? `; ${plural(kept, "head")} of before still stand${kept === 1 ? "s" : ""} where ${kept === 1 ? "it was" : "they were"}` : ""}.
      </Text>
      <Text size="sm" mt={6}>
        Its head stands for all of it. Note it where the hub's owner cannot reach it:
      </Text>
      <div className={classes.head}>
        <span className="mono">{head}</span>
        <Copy text={head} label="Copy the head" />
      </div>
      {kept === 0 && (
        <Text size="sm" mt={4}>
          Whoever owns the database could have written a whole log anew. Only a head that was noted before tells: paste
          one next time.
        </Text>
      )}
    </Alert>
  );
}
