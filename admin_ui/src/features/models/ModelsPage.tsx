import { Anchor, Button, Text } from "@mantine/core";
import { IconBox, IconPlus } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link, useSearchParams } from "react-router";

import { useListing } from "@/api/paging";
import type { Model } from "@/api/types";
import type { Column } from "@/components/DataTable";
import { DataTable } from "@/components/DataTable";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { Ago } from "@/components/values";
import { useMay, useSlug } from "@/features/federations/federations";
import { UploadModal } from "@/features/models/UploadModal";
import { createCommand } from "@/features/models/commands";
import { cardQuery, modelsListing, originOf } from "@/features/models/models";
import { formatCount, formatMetric } from "@/format/sizes";
import { plural } from "@/format/words";

export function ModelsPage() {
  const slug = useSlug();
  const mayRun = useMay("run");
  const [search, setSearch] = useSearchParams();
  const listed = useListing(modelsListing(slug));
  const add = mayRun && (
    <Button leftSection={<IconPlus size={16} aria-hidden />} onClick={() => setSearch({ add: "1" })}>
      Add a model
    </Button>
  );
  return (
    <>
      <PageHeader
        title="Models"
        text="What the federation trains: each model has checkpoints, one for every completed round and every upload."
        actions={listed.items.length > 0 && add}
      />
      {listed.error !== null && listed.items.length === 0 ? (
        <Problem error={listed.error} retry={listed.refetch} />
      ) : listed.isPending ? (
        <Loading rows={6} />
      ) : listed.items.length === 0 ? (
        <EmptyState icon={IconBox} title="No models yet" command={createCommand(slug)} action={add}>
          A model begins with a base checkpoint: the tensors that every site starts from. Your trainer can make it, or any
          safetensors file is one.
        </EmptyState>
      ) : (
        <ModelTable slug={slug} models={listed.items} />
      )}
      {mayRun && search.get("add") !== null && <UploadModal slug={slug} close={() => setSearch({}, { replace: true })} />}
    </>
  );
}

function ModelTable({ slug, models }: { slug: string; models: readonly Model[] }) {
  const columns: Column<Model>[] = [
    {
      key: "name",
      header: "Model",
      isTitle: true,
      width: "minmax(0, 2.4fr)",
      sortBy: (model) => model.name,
      cell: (model) => (
        <>
          <Text component={Link} to={`/f/${slug}/models/${encodeURIComponent(model.name)}`} size="sm" fw={600} c="inherit">
            {model.name}
          </Text>
          {model.description !== "" && (
            <Text size="xs" c="dimmed" fw={400} lineClamp={1}>
              {model.description}
            </Text>
          )}
        </>
      ),
    },
    {
      key: "parameters",
      header: "Parameters",
      width: "110px",
      align: "end",
      sortBy: (model) => model.parameters,
      cell: (model) => (model.parameters === null ? "–" : formatCount(model.parameters)),
    },
    {
      key: "newest",
      header: "Newest checkpoint",
      width: "minmax(0, 2fr)",
      cell: (model) => <Newest slug={slug} model={model} />,
    },
    { key: "metric", header: "Its metric", width: "minmax(0, 1.1fr)", cell: (model) => <Metric slug={slug} model={model} /> },
    {
      key: "created",
      header: "Created",
      width: "110px",
      align: "end",
      sortBy: (model) => model.created_at,
      cell: (model) => <Ago at={model.created_at} />,
    },
  ];
  return (
    <DataTable
      label="Models"
      rows={models}
      columns={columns}
      rowKey={(model) => model.id}
      rowHeight={60}
      href={(model) => `/f/${slug}/models/${encodeURIComponent(model.name)}`}
      footer={plural(models.length, "model")}
    />
  );
}

function useNewest(slug: string, model: Model) {
  return useQuery({ ...cardQuery(slug, model.latest_checkpoint_id ?? ""), enabled: model.latest_checkpoint_id !== null });
}

function Newest({ slug, model }: { slug: string; model: Model }) {
  const card = useNewest(slug, model).data;
  if (model.latest_checkpoint_id === null) {
    return (
      <Text size="sm" c="dimmed">
        none yet
      </Text>
    );
  }
  return (
    <Text size="sm" component="div">
      <Anchor
        component={Link}
        to={`/f/${slug}/models/${encodeURIComponent(model.name)}/checkpoints/${model.latest_checkpoint_id}`}
        size="sm"
      >
        {card === undefined ? "newest" : originOf(card.made_by, card.round_number)}
      </Anchor>
      {card !== undefined && (
        <Text span size="xs" c="dimmed">
          {" "}
          <Ago at={card.checkpoint.created_at} />
        </Text>
      )}
    </Text>
  );
}

function Metric({ slug, model }: { slug: string; model: Model }) {
  const metrics = useNewest(slug, model).data?.metrics ?? [];
  const metric = metrics.find((one) => one.kind === "eval" && one.name === "loss") ?? metrics[0];
  if (metric === undefined) {
    return (
      <Text size="sm" c="dimmed">
        –
      </Text>
    );
  }
  return (
    <Text size="sm" className="numbers">
      {metric.name} {formatMetric(metric.value)}
    </Text>
  );
}
