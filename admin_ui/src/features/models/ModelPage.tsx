import { Button, Stack, Text } from "@mantine/core";
import { IconPlayerPlay, IconUpload } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, useParams, useSearchParams } from "react-router";

import { useListing } from "@/api/paging";
import type { Model } from "@/api/types";
import { EmptyState } from "@/components/EmptyState";
import { Figures } from "@/components/Facts";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { Problem } from "@/components/Problem";
import { Loading, QueryView } from "@/components/QueryView";
import { useMay, useSlug } from "@/features/federations/federations";
import { CheckpointTable } from "@/features/models/CheckpointTable";
import { LineageGraph } from "@/features/models/LineageGraph";
import { UploadModal } from "@/features/models/UploadModal";
import { uploadCommand } from "@/features/models/commands";
import type { Lineage } from "@/features/models/models";
import { checkpointsListing, lineageQuery, modelQuery, originOf } from "@/features/models/models";
import { formatCount, formatMetric } from "@/format/sizes";
import { formatDay } from "@/format/times";

export function ModelPage() {
  const slug = useSlug();
  const { model = "" } = useParams();
  const query = useQuery(modelQuery(slug, model));
  return (
    <QueryView query={query} rows={8}>
      {(data) => <ModelView slug={slug} model={data} />}
    </QueryView>
  );
}

function ModelView({ slug, model }: { slug: string; model: Model }) {
  const mayRun = useMay("run");
  const [search, setSearch] = useSearchParams();
  const lineage = useQuery(lineageQuery(slug, model.name));
  const listed = useListing(checkpointsListing(slug, model.name));
  return (
    <>
      <PageHeader
        title={model.name}
        text={model.description}
        parents={[{ label: "Models", to: `/f/${slug}/models` }]}
        actions={
          mayRun && (
            <>
              <Button variant="default" leftSection={<IconUpload size={16} aria-hidden />} onClick={() => setSearch({ add: "1" })}>
                Upload a base
              </Button>
              {model.latest_checkpoint_id !== null && (
                <Button
                  component={Link}
                  to={`/f/${slug}/runs/new?model=${encodeURIComponent(model.name)}`}
                  leftSection={<IconPlayerPlay size={16} aria-hidden />}
                >
                  New run
                </Button>
              )}
            </>
          )
        }
      />
      {model.latest_checkpoint_id === null ? (
        <EmptyState icon={IconUpload} title="No checkpoint yet" command={uploadCommand(slug, model.name)}>
          Its first checkpoint fixes the layout: the names, shapes and types of its tensors.
        </EmptyState>
      ) : (
        <Stack gap="md">
          <ModelFigures model={model} lineage={lineage.data} />
          <Panel title="Lineage" aside={<Text size="xs" c="dimmed">what each run began from, oldest first</Text>}>
            <QueryView query={lineage}>{(data) => <LineageGraph slug={slug} model={model.name} lineage={data} />}</QueryView>
          </Panel>
          {listed.error !== null && listed.items.length === 0 ? (
            <Problem error={listed.error} retry={listed.refetch} />
          ) : listed.isPending ? (
            <Loading rows={6} />
          ) : (
            <CheckpointTable
              slug={slug}
              model={model.name}
              checkpoints={listed.items}
              lineage={lineage.data}
              isComplete={listed.isComplete}
            />
          )}
        </Stack>
      )}
      {mayRun && search.get("add") !== null && (
        <UploadModal slug={slug} model={model} close={() => setSearch({}, { replace: true })} />
      )}
    </>
  );
}

function ModelFigures({ model, lineage }: { model: Model; lineage: Lineage | undefined }) {
  const nodes = lineage?.nodes ?? [];
  const runs = nodes.filter((node) => node.run_id !== null);
  const checkpoints = nodes.reduce((sum, node) => sum + node.checkpoints, 0);
  const newest = runs.findLast((node) => node.metric !== null);
  return (
    <Figures
      figures={[
        { name: "Parameters", value: model.parameters === null ? "–" : formatCount(model.parameters) },
        {
          name: "Checkpoints",
          value: lineage === undefined ? "–" : formatCount(checkpoints),
          note: `since ${formatDay(new Date(model.created_at))}`,
        },
        { name: "Runs", value: lineage === undefined ? "–" : formatCount(runs.length), note: runsNote(runs) },
        {
          name: newest?.metric == null ? "Newest metric" : `Newest ${newest.metric.name}`,
          value: newest?.metric == null ? "–" : formatMetric(newest.metric.value),
          note:
            newest?.metric == null
              ? "no run was evaluated yet"
              : originOf(newest.run_name, newest.metric.round_number),
        },
      ]}
    />
  );
}

function runsNote(runs: Lineage["nodes"]): string {
  const open = runs.filter((node) => node.state === "running" || node.state === "queued" || node.state === "paused").length;
  const done = runs.filter((node) => node.state === "completed").length;
  return open > 0 ? `${open} open, ${done} completed` : `${done} completed`;
}
