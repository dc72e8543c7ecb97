/** What would happen if this plan were started now: whom it asks, what it moves, how long it may take. */
import { Alert, Anchor, Stack, Text, Title, UnstyledButton } from "@mantine/core";
import { IconAlertTriangle, IconClockPause } from "@tabler/icons-react";
import { useState } from "react";

import { Facts } from "@/components/Facts";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { Bytes, Digest } from "@/components/values";
import classes from "@/features/plans/plans.module.css";
import type { PlanErrors } from "@/features/plans/planErrors";
import type { RunPreview, Verdict } from "@/features/plans/plans";
import { formatSeconds } from "@/format/times";
import { plural } from "@/format/words";

interface Props {
  verdict: Verdict | undefined;
  error: unknown; // of the request, where there is no verdict
  isStale: boolean; // the plan was changed since
  errors: PlanErrors;
  goTo: (path: string) => void;
}

export function PreviewPanel({ verdict, error, isStale, errors, goTo }: Props) {
  return (
    <section className="panel" aria-label="What would happen" aria-busy={isStale}>
      <Stack p="md" gap="md" {...(isStale ? { className: classes.waiting } : {})}>
        <Title order={2}>What would happen</Title>
        {verdict === undefined && (error ? <Problem error={error} /> : <Loading rows={6} />)}
        {verdict?.problem && <Problems verdict={verdict} errors={errors} goTo={goTo} />}
        {verdict?.preview && <Outlook preview={verdict.preview} />}
      </Stack>
    </section>
  );
}

function Problems({ verdict, errors, goTo }: { verdict: Verdict; errors: PlanErrors; goTo: (path: string) => void }) {
  if (errors.size === 0) return <Problem error={verdict.problem} />;
  return (
    <Alert color="red" title="The hub would refuse this plan" icon={<IconAlertTriangle size={18} />} role="status">
      <ul className={classes.list}>
        {[...errors].map(([path, messages]) => (
          <li key={path}>
            {path !== "" && (
              <Anchor component="button" type="button" size="sm" className="mono" onClick={() => goTo(path)}>
                {path}
              </Anchor>
            )}
            <Text size="sm">{messages.join(" ")}</Text>
          </li>
        ))}
      </ul>
    </Alert>
  );
}

function Outlook({ preview }: { preview: RunPreview }) {
  const { plan } = preview;
  const isTraining = plan.rounds > 0;
  return (
    <>
      {preview.waits_for !== null && (
        <Alert color="yellow" title="It would wait" icon={<IconClockPause size={18} />}>
          <Text size="sm">{sentence(preview.waits_for)}</Text>
        </Alert>
      )}
      {preview.warnings.length > 0 && (
        <Alert color="orange" title={plural(preview.warnings.length, "warning")} icon={<IconAlertTriangle size={18} />}>
          <ul className={classes.list}>
            {preview.warnings.map((warning) => (
              <li key={warning}>{sentence(warning)}</li>
            ))}
          </ul>
        </Alert>
      )}
      <Facts
        facts={[
          ["Asked", `${plural(preview.asked, "site")} of ${preview.eligible} eligible`],
          ["To each site", <Bytes key="down" value={preview.bytes_down} />],
          ["From each site", <Bytes key="up" value={preview.bytes_up} />],
          ["A round", <Bytes key="round" value={preview.bytes_per_round} />],
          [isTraining ? `In all ${plan.rounds}` : "In all", <Bytes key="total" value={preview.bytes_total} />],
          ...time(preview),
          ["Starts from", <Digest key="from" value={preview.checkpoint.digest} name="checkpoint's digest" />],
        ]}
      />
      <Sites preview={preview} />
    </>
  );
}

function time(preview: RunPreview): [string, React.ReactNode][] {
  if (preview.seconds_per_round === null) {
    return [["Time", <Text key="time" size="sm" c="dimmed">not known: this model has no completed round yet</Text>]];
  }
  const total = preview.seconds_total === null ? "" : `, ${formatSeconds(preview.seconds_total)} in all`;
  return [
    [
      "Time",
      <div key="time">
        about {formatSeconds(preview.seconds_per_round)} a round{total}
        {preview.estimated_from && (
          <Text size="xs" c="dimmed">
            {sentence(preview.estimated_from)}
          </Text>
        )}
      </div>,
    ],
  ];
}

function sentence(text: string): string {
  return text.charAt(0).toUpperCase() + text.slice(1);
}

const MOST_ASKED = 16;
const MOST_EXCLUDED = 6;

function Sites({ preview }: { preview: RunPreview }) {
  return (
    <>
      {preview.site_names.length > 0 && (
        <Stack gap={6}>
          <Title order={3} fz="sm">
            Who would be asked first
          </Title>
          <Some all={preview.site_names} most={MOST_ASKED} className={classes.names ?? ""}>
            {(name) => (
              <span key={name} className={classes.name}>
                {name}
              </span>
            )}
          </Some>
        </Stack>
      )}
      {preview.excluded.length > 0 && (
        <Stack gap={6}>
          <Title order={3} fz="sm">
            Who would not, and why
          </Title>
          <Some all={preview.excluded} most={MOST_EXCLUDED} className={classes.list ?? ""}>
            {({ site, reason }) => (
              <div key={site}>
                <Text span size="sm" fw={560}>
                  {site}
                </Text>{" "}
                <Text span size="sm" c="dimmed">
                  {reason}
                </Text>
              </div>
            )}
          </Some>
        </Stack>
      )}
    </>
  );
}

interface SomeProps<Item> {
  all: readonly Item[];
  most: number;
  className: string;
  children: (item: Item) => React.ReactNode;
}

/** The first of a list, and all of it when asked for. */
function Some<Item>({ all, most, className, children }: SomeProps<Item>) {
  const [isWhole, setWhole] = useState(false);
  const left = all.length - most;
  return (
    <div className={className}>
      {(isWhole ? all : all.slice(0, most)).map(children)}
      {left > 0 && (
        <UnstyledButton fz="sm" c="var(--mantine-color-anchor)" onClick={() => setWhole(!isWhole)}>
          {isWhole ? "Show fewer" : `and ${left} more`}
        </UnstyledButton>
      )}
    </div>
  );
}
