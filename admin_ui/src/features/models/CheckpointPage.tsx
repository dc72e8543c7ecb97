/** A checkpoint's model card: what it is, who made it, how good it is, and how to use it. */
import { Anchor, Badge, Button, Grid, Stack, Text } from "@mantine/core";
import { IconDownload, IconFileText, IconPlayerPlay } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, useParams } from "react-router";

import { Command } from "@/components/Command";
import type { Fact } from "@/components/Facts";
import { Facts } from "@/components/Facts";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { QueryView } from "@/components/QueryView";
import { Ago, Bytes, Digest } from "@/components/values";
import { useMay, useSlug } from "@/features/federations/federations";
import { CardLineage } from "@/features/models/CardLineage";
import { CardMetrics } from "@/features/models/CardMetrics";
import { CardPlan } from "@/features/models/CardPlan";
import { digestCommand, downloadCommand, loadCode, torchCode } from "@/features/models/commands";
import type { ModelCard } from "@/features/models/models";
import { cardHref, cardQuery, contentHref, fileName, originOf } from "@/features/models/models";
import { verifyCommand } from "@/features/receipts/verification/command";
import { formatBytes, formatCount } from "@/format/sizes";
import { plural } from "@/format/words";

export function CheckpointPage() {
  const slug = useSlug();
  const { checkpointId = "" } = useParams();
  const query = useQuery(cardQuery(slug, checkpointId));
  return (
    <QueryView query={query} rows={10}>
      {(card) => <Card slug={slug} card={card} />}
    </QueryView>
  );
}

function Card({ slug, card }: { slug: string; card: ModelCard }) {
  const mayRun = useMay("run");
  const { checkpoint } = card;
  const model = encodeURIComponent(card.model);
  const name = fileName(checkpoint);
  return (
    <>
      <PageHeader
        title={card.round_number === null ? "Uploaded base" : `Round ${card.round_number}`}
        badge={
          card.secure && (
            <Badge variant="light" color="hansa" radius="sm" tt="none">
              secure aggregation
            </Badge>
          )
        }
        text={
          <>
            A checkpoint of {card.model}, {originOf(card.made_by, card.round_number)}, <Ago at={checkpoint.created_at} />
          </>
        }
        parents={[
          { label: "Models", to: `/f/${slug}/models` },
          { label: card.model, to: `/f/${slug}/models/${model}` },
        ]}
        actions={
          <>
            <Button
              component="a"
              href={cardHref(slug, checkpoint.id)}
              download={`${card.model}-${name.replace(".safetensors", "")}.md`}
              variant="default"
              leftSection={<IconFileText size={16} aria-hidden />}
            >
              Card as Markdown
            </Button>
            {mayRun && (
              <Button
                component={Link}
                to={`/f/${slug}/runs/new?model=${model}&checkpoint=${checkpoint.id}`}
                variant="default"
                leftSection={<IconPlayerPlay size={16} aria-hidden />}
              >
                Run from here
              </Button>
            )}
            <Button
              component="a"
              href={contentHref(slug, checkpoint.id)}
              download={name}
              leftSection={<IconDownload size={16} aria-hidden />}
            >
              Download, {formatBytes(checkpoint.size)}
            </Button>
          </>
        }
      />
      <Grid gap="md">
        <Grid.Col span={{ base: 12, lg: 7 }}>
          <Stack gap="md">
            <Panel title="What it is">
              {card.description !== "" && (
                <Text size="sm" mb="sm">
                  {card.description}
                </Text>
              )}
              <Facts facts={factsOf(slug, card)} />
            </Panel>
            <CardMetrics card={card} />
            {card.plan !== null && card.run_id !== null && <CardPlan slug={slug} runId={card.run_id} plan={card.plan} />}
          </Stack>
        </Grid.Col>
        <Grid.Col span={{ base: 12, lg: 5 }}>
          <Stack gap="md">
            <Use slug={slug} card={card} />
            <CardLineage slug={slug} card={card} />
          </Stack>
        </Grid.Col>
      </Grid>
    </>
  );
}

function factsOf(slug: string, card: ModelCard): Fact[] {
  const { checkpoint, run_id: runId } = card;
  const run = `/f/${slug}/runs/${runId ?? ""}`;
  const facts: Fact[] = [
    ["Parameters", card.parameters === null ? "–" : `${formatCount(card.parameters)} in ${plural(card.tensors ?? 0, "tensor")}`],
    ["Size", <Bytes key="size" value={checkpoint.size} />],
    ["SHA-256", <Digest key="digest" value={checkpoint.digest} characters={24} />],
    ["Id", <Digest key="id" value={checkpoint.id} name="id" characters={36} />],
  ];
  if (runId === null) return [...facts, ["Made by", "somebody's upload: the audit log says whose"]];
  facts.push([
    "Made by",
    <Anchor key="run" component={Link} to={`${run}?round=${card.round_number ?? 1}`} inherit>
      {originOf(card.made_by, card.round_number)}
    </Anchor>,
  ]);
  facts.push(["Sites whose updates counted", `${plural(card.sites, "site")}, up to this round`]);
  facts.push(["Examples of this round", card.examples === null ? "not known: they are inside the sum" : formatCount(card.examples)]);
  facts.push(["Single updates", card.secure ? "never seen by the hub" : "seen by the hub, kept as the retention policy says"]);
  facts.push([
    "Receipt",
    card.receipt === null ? (
      "none"
    ) : (
      <Anchor key="receipt" component={Link} to={`${run}/receipts?round=${card.round_number ?? 1}`} inherit className="mono">
        {card.receipt.slice(0, 16)}
      </Anchor>
    ),
  ]);
  const slots = checkpoint.slots ?? [];
  if (slots.length > 0) facts.push(["The server's state beside it", slots.map((slot) => slot.name).join(", ")]);
  return facts;
}

function Use({ slug, card }: { slug: string; card: ModelCard }) {
  const { checkpoint, run_id: runId } = card;
  return (
    <Panel title="Use it">
      <Stack gap="sm">
        <Example title="Fetch it; its digest is checked" text={downloadCommand(slug, checkpoint)} />
        <Example title="Or check a download of this page" text={digestCommand(checkpoint)} />
        <Example title="Read it in Python, as numpy arrays by name" text={loadCode(checkpoint)} />
        <Example title="Into a PyTorch module" text={torchCode()} />
        {runId !== null && <Example title="Verify how it was made, bit for bit" text={verifyCommand(slug, runId)} />}
        <Text size="xs" c="dimmed">
          The file is in the safetensors format: any reader of it will do.
        </Text>
      </Stack>
    </Panel>
  );
}

function Example({ title, text }: { title: string; text: string }) {
  return (
    <div>
      <Text size="sm" mb={4}>
        {title}
      </Text>
      <Command text={text} label={`Copy: ${title}`} />
    </div>
  );
}
