import { Alert, Badge, Grid, Group, List, Progress, Stack, Text } from "@mantine/core";
import { IconAlertTriangle, IconCircleCheck } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";

import type { Fact } from "@/components/Facts";
import { Facts } from "@/components/Facts";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { QueryView } from "@/components/QueryView";
import { Ago, Bytes } from "@/components/values";
import type { Deployment } from "@/features/deployment/deployment";
import { deploymentQuery, judge } from "@/features/deployment/deployment";
import { formatBytes, formatCount, formatShare } from "@/format/sizes";
import { formatSeconds } from "@/format/times";
import { plural } from "@/format/words";

export function DeploymentPage() {
  const deployment = useQuery(deploymentQuery);
  return (
    <>
      <PageHeader
        title="Deployment"
        text={
          deployment.data ? (
            <>
              The hub&apos;s own parts, checked <Ago at={deployment.data.checked_at} />.
            </>
          ) : (
            "The hub's own parts."
          )
        }
      />
      <QueryView query={deployment} rows={8}>
        {(data) => (
          <Stack gap="lg">
            <Summary deployment={data} />
            <Grid gap="lg">
              <Cell>
                <HubPanel deployment={data} />
              </Cell>
              <Cell>
                <WorkPanel deployment={data} />
              </Cell>
              <Cell>
                <DatabasePanel deployment={data} />
              </Cell>
              <Cell>
                <StorePanel deployment={data} />
              </Cell>
              <Cell>
                <BrokerPanel deployment={data} />
              </Cell>
              <Cell>
                <WorkersPanel deployment={data} />
              </Cell>
            </Grid>
          </Stack>
        )}
      </QueryView>
    </>
  );
}

function Cell({ children }: { children: React.ReactNode }) {
  return <Grid.Col span={{ base: 12, lg: 6 }}>{children}</Grid.Col>;
}

interface Props {
  deployment: Deployment;
}

function Summary({ deployment }: Props) {
  const verdict = judge(deployment);
  if (verdict.isWell) {
    return (
      <Alert color="green" icon={<IconCircleCheck size={18} />} title="All parts work">
        The database, the broker, the artifact store and {plural(deployment.workers.length, "worker")} answer.
      </Alert>
    );
  }
  return (
    <Alert color="red" icon={<IconAlertTriangle size={18} />} title="Something needs attention">
      <List size="sm">
        {verdict.words.map((word) => (
          <List.Item key={word}>{word}</List.Item>
        ))}
      </List>
    </Alert>
  );
}

interface PartProps {
  title: string;
  ok: boolean;
  seconds?: number | null | undefined; // to answer
  detail?: string | null | undefined;
  facts: Fact[];
}

function Part({ title, ok, seconds, detail, facts }: PartProps) {
  return (
    <Panel
      title={title}
      h="100%"
      aside={
        <Group gap={8}>
          {seconds != null && (
            <Text size="xs" c="dimmed" className="numbers">
              {formatSeconds(seconds)}
            </Text>
          )}
          <Badge variant="light" color={ok ? "green" : "red"} radius="sm" tt="none" fw={560}>
            {ok ? "works" : "fails"}
          </Badge>
        </Group>
      }
    >
      {detail && (
        <Text size="sm" mb="sm" c={ok ? "dimmed" : "red"}>
          {detail}
        </Text>
      )}
      <Facts facts={facts} />
    </Panel>
  );
}

function HubPanel({ deployment: { hub } }: Props) {
  return (
    <Part
      title="Hub"
      ok
      facts={[
        ["Version", hub.version],
        ["Public address", <span key="url" className="mono">{hub.public_url}</span>],
        ["Host", hub.host],
        ["Python", hub.python],
        ["Started", <Ago key="at" at={hub.started_at} />],
      ]}
    />
  );
}

function WorkPanel({ deployment: { work } }: Props) {
  return (
    <Part
      title="Work"
      ok={work.ok}
      seconds={work.seconds}
      detail={work.detail}
      facts={[
        ["Aggregations", `${formatCount(work.aggregations_running ?? 0)} running, ${formatCount(work.aggregations_waiting ?? 0)} waiting`],
        ["Messages to deliver", formatCount(work.deliveries_waiting ?? 0)],
        ["Oldest waiting", work.oldest_waiting_seconds == null ? "none" : formatSeconds(work.oldest_waiting_seconds)],
        ["Last sweep", <Ago key="sweep" at={work.last_sweep_at} />],
      ]}
    />
  );
}

function DatabasePanel({ deployment: { database } }: Props) {
  const used = database.connections ?? 0;
  const most = database.max_connections ?? 0;
  return (
    <Part
      title="Database"
      ok={database.ok}
      seconds={database.seconds}
      detail={database.detail}
      facts={[
        ["Version", database.version ?? "–"],
        ["Size", <Bytes key="size" value={database.size_bytes} />],
        ["Connections", most === 0 ? "–" : `${used} of ${most}`],
        ["Migration", database.migration === database.newest_migration ? `${database.migration ?? "–"}, the newest` : (database.migration ?? "–")],
      ]}
    />
  );
}

function StorePanel({ deployment: { store } }: Props) {
  const { free_bytes: free, total_bytes: total } = store;
  const knowsSpace = free != null && total != null && total > 0;
  return (
    <Part
      title="Artifact store"
      ok={store.ok}
      seconds={store.seconds}
      detail={store.detail}
      facts={[
        ["Kind", store.kind],
        ["Artifacts", `${formatCount(store.artifacts ?? 0)}, ${formatBytes(store.artifact_bytes ?? 0)}`],
        [
          "Space",
          knowsSpace ? (
            <Stack key="space" gap={4}>
              <span>
                {formatBytes(free)} free of {formatBytes(total)}
              </span>
              <Progress
                value={100 * (1 - free / total)}
                color={free < 0.1 * total ? "red" : "hansa"}
                aria-label={`${formatShare(total - free, total)} of the disk is used`}
              />
            </Stack>
          ) : (
            "as much as the provider gives"
          ),
        ],
      ]}
    />
  );
}

function BrokerPanel({ deployment: { broker } }: Props) {
  return (
    <Part
      title="Broker"
      ok={broker.ok}
      seconds={broker.seconds}
      detail={broker.detail}
      facts={[
        ["Version", broker.version ?? "–"],
        ["Memory", <Bytes key="memory" value={broker.memory_bytes} />],
        ...(broker.queues ?? []).map((queue): Fact => [`Queue ${queue.name}`, `${formatCount(queue.waiting)} waiting`]),
      ]}
    />
  );
}

function WorkersPanel({ deployment: { workers, workers_detail: detail } }: Props) {
  return (
    <Part
      title="Workers"
      ok={workers.length > 0}
      detail={detail ?? (workers.length === 0 ? "None answers. Start one: hansa-hub worker" : undefined)}
      facts={workers.map((worker): Fact => [
        worker.name,
        `${worker.active} of ${plural(worker.concurrency ?? 0, "process", "processes")} busy, ${formatCount(worker.processed)} jobs done${
          worker.uptime_seconds == null ? "" : `, up for ${formatSeconds(worker.uptime_seconds)}`
        }`,
      ])}
    />
  );
}
