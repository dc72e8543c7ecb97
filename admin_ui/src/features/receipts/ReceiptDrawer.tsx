/** One receipt opened: all that the hub signed, as people read it, and the text itself. */
import { ActionIcon, Anchor, Button, Collapse, Drawer, Group, Stack, Text, Tooltip } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconChevronLeft, IconChevronRight } from "@tabler/icons-react";
import { Link } from "react-router";

import type { Run } from "@/api/types";
import { Copy } from "@/components/Command";
import type { Fact } from "@/components/Facts";
import { Facts } from "@/components/Facts";
import { StateBadge } from "@/components/StateBadge";
import { ROUND_STATES, RUN_STATES } from "@/components/states";
import { Bytes, Digest } from "@/components/values";
import { HoldBox } from "@/features/receipts/HoldBox";
import { bodyOf } from "@/features/receipts/ReceiptTable";
import { RoundParts } from "@/features/receipts/RoundParts";
import type { ReceiptBody } from "@/features/receipts/body";
import classes from "@/features/receipts/receipts.module.css";
import type { Receipt } from "@/features/receipts/receipts";
import { sentenceOf, titleOf } from "@/features/receipts/tell";
import { formatMoment } from "@/format/times";
import { plural } from "@/format/words";

interface Props {
  slug: string;
  run: Run;
  receipt: Receipt;
  most: number; // the last receipt's number
  select: (number: number | undefined) => void;
}

export function ReceiptDrawer({ slug, run, receipt, most, select }: Props) {
  const body = bodyOf(receipt);
  const state = body?.round?.state;
  return (
    <Drawer
      opened
      onClose={() => select(undefined)}
      position="right"
      size="min(820px, 100%)"
      overlayProps={{ backgroundOpacity: 0.25 }}
      transitionProps={{ duration: 120 }}
      title={
        <Group gap="sm">
          <Text fw={640} fz="lg">
            Receipt {receipt.number}
            {body !== null && `: ${titleOf(body)}`}
          </Text>
          {state !== undefined && <StateBadge look={ROUND_STATES[state]} />}
          {body?.end != null && <StateBadge look={RUN_STATES[body.end.state]} />}
        </Group>
      }
      closeButtonProps={{ "aria-label": "Close the receipt" }}
    >
      <Stack gap="lg">
        <Group justify="space-between" wrap="nowrap" align="flex-start">
          <Text size="sm">{body === null ? "It is in no form that this console knows: verify the run." : sentenceOf(body)}</Text>
          <Group gap={4} wrap="nowrap">
            <Step label="The receipt before" to={receipt.number - 1} most={most} select={select} />
            <Step label="The receipt after" to={receipt.number + 1} most={most} select={select} />
          </Group>
        </Group>
        {body !== null && <Said slug={slug} run={run} body={body} />}
        <HoldBox slug={slug} runId={run.id} receipt={receipt} key={receipt.digest} />
        <Signed receipt={receipt} body={body} />
      </Stack>
    </Drawer>
  );
}

function Step({ label, to, most, select }: { label: string; to: number; most: number; select: (number: number) => void }) {
  const Icon = label.endsWith("before") ? IconChevronLeft : IconChevronRight;
  return (
    <Tooltip label={label}>
      <ActionIcon variant="default" aria-label={label} disabled={to < 1 || to > most} onClick={() => select(to)}>
        <Icon size={16} aria-hidden />
      </ActionIcon>
    </Tooltip>
  );
}

function Said({ slug, run, body }: { slug: string; run: Run; body: ReceiptBody }) {
  const { round, end, origin } = body;
  return (
    <>
      {round !== null && (
        <>
          <RoundParts round={round} />
          <Facts
            facts={[
              [
                "Round",
                <Anchor key="round" component={Link} to={`/f/${slug}/runs/${run.id}?round=${round.round_number}`} inherit>
                  {round.kind === "train" ? "training" : "evaluation"} round {round.round_number}
                </Anchor>,
              ],
              ["Opened", formatMoment(new Date(round.opened_at))],
              ["Closed", formatMoment(new Date(round.closed_at))],
              ["Answers it needed", `${round.threshold}${round.target === null ? "" : `, closed at once with ${round.target}`}`],
              ...(round.population === null ? [] : [["Could have been asked", plural(round.population, "site")] as Fact]),
              ["Sent out", <Stored key="base" digest={round.base.digest} size={round.base.size} />],
              ...(round.aggregate === null
                ? [["Made", "no checkpoint"] as Fact]
                : ([
                    ["Made", <Stored key="made" digest={round.aggregate.checkpoint.digest} size={round.aggregate.checkpoint.size} />],
                    ["By the rule", <span key="rule" className="mono">{round.aggregate.rule}</span>],
                  ] as Fact[])),
            ]}
          />
          {round.secure !== null && (
            <Section title="The secure sum">
              <Facts
                facts={[
                  ["Roster", <Digest key="roster" value={round.secure.roster} name="roster's digest" characters={20} />],
                  ["Its version", String(round.secure.roster_version)],
                  ["Took part", plural(round.secure.participants.length, "site")],
                  ["In the sum", round.secure.survivors.length === 0 ? "none: it came to no sum" : plural(round.secure.survivors.length, "site")],
                  [
                    "Transcript",
                    round.secure.transcript === null ? "none" : <Stored key="transcript" {...round.secure.transcript} />,
                  ],
                  ["Mean of the updates", round.secure.summed === null ? "none" : <Stored key="summed" {...round.secure.summed} />],
                ]}
              />
            </Section>
          )}
        </>
      )}
      {end !== null && (
        <Facts
          facts={[
            ["Why it ended", `${end.cause}${end.reason === null ? "" : `: ${end.reason}`}`],
            ...(end.stop_reason === null ? [] : [["Stopped early", end.stop_reason] as Fact]),
            ["Completed rounds", String(end.rounds_completed)],
            ["Leaves the checkpoint", <Stored key="left" {...end.checkpoint} />],
            ["Moved to and from sites", <Bytes key="moved" value={end.bytes_moved} />],
            ["Started", end.started_at === null ? "never" : formatMoment(new Date(end.started_at))],
            ["Ended", formatMoment(new Date(end.ended_at))],
            ...(end.sites.length === 0
              ? []
              : [["Waited for in vain", end.sites.map(({ site, reason }) => `${site}${reason === null ? "" : ` (${reason})`}`).join(", ")] as Fact]),
          ]}
        />
      )}
      {origin !== null && (
        <Section title="Where the run began">
          <Facts
            facts={[
              ["Base checkpoint", <Stored key="base" {...origin.checkpoint} />],
              ["Made by the round of", origin.receipt === null ? "no receipt: it was uploaded" : <Digest key="receipt" value={origin.receipt} characters={20} />],
              [
                "Forked from",
                origin.parent_run === null ? (
                  "no other run"
                ) : (
                  <Anchor key="run" component={Link} to={`/f/${slug}/runs/${origin.parent_run}`} inherit>
                    this run
                  </Anchor>
                ),
              ],
              ["The plan's text", origin.plan === null ? "not carried" : <Copy key="plan" text={origin.plan} label="Copy the plan's exact text" />],
            ]}
          />
        </Section>
      )}
    </>
  );
}

function Stored({ digest, size }: { digest: string; size: number }) {
  return (
    <Group gap={8} display="inline-flex">
      <Digest value={digest} characters={16} />
      <Text span c="dimmed" inherit>
        <Bytes value={size} />
      </Text>
    </Group>
  );
}

function Section({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <section aria-label={title}>
      <Text component="h3" fw={600} size="sm" m={0} mb={6}>
        {title}
      </Text>
      {children}
    </section>
  );
}

/** What was signed, by whom, and the very text. */
function Signed({ receipt, body }: { receipt: Receipt; body: ReceiptBody | null }) {
  const [opened, { toggle }] = useDisclosure(false);
  return (
    <Section title="Signature">
      <Facts
        facts={[
          ["Digest", <Digest key="digest" value={receipt.digest} characters={20} />],
          ["Of the receipt before", body?.parent == null ? "this is the first" : <Digest key="parent" value={body.parent} characters={20} />],
          ["Digest of the plan", body === null ? "–" : <Digest key="plan" value={body.plan_digest} characters={20} />],
          ["The hub's key", <Digest key="key" value={receipt.fingerprint} name="fingerprint" characters={40} />],
          ["Signature", <Digest key="signature" value={receipt.signature} name="signature" characters={20} />],
          ["Issued", body === null ? "–" : formatMoment(new Date(body.issued_at))],
          ["Software", body === null ? "–" : Object.entries(body.software).map(([name, version]) => `${name} ${version}`).join(", ")],
        ]}
      />
      <Group gap={4} mt="sm">
        <Button variant="default" size="xs" onClick={toggle} aria-expanded={opened}>
          {opened ? "Hide the signed text" : "Show the signed text"}
        </Button>
        <Copy text={receipt.body} label="Copy the signed text" />
      </Group>
      <Collapse expanded={opened}>
        {opened && (
          <pre className={classes.text} tabIndex={0} aria-label="The signed text">
            {receipt.body}
          </pre>
        )}
      </Collapse>
    </Section>
  );
}
