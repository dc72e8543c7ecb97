import { ActionIcon, Anchor, Text, Tooltip } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";
import { useMemo } from "react";
import { Link } from "react-router";

import type { Checkpoint } from "@/api/types";
import type { Column } from "@/components/DataTable";
import { DataTable } from "@/components/DataTable";
import { Ago, Bytes, Digest } from "@/components/values";
import type { Lineage } from "@/features/models/models";
import { contentHref, fileName } from "@/features/models/models";
import { plural } from "@/format/words";

interface Props {
  slug: string;
  model: string;
  checkpoints: readonly Checkpoint[];
  lineage: Lineage | undefined; // for the names of runs
  isComplete: boolean;
}

export function CheckpointTable({ slug, model, checkpoints, lineage, isComplete }: Props) {
  const here = `/f/${slug}/models/${encodeURIComponent(model)}/checkpoints`;
  const names = useMemo(() => new Map(lineage?.nodes.map((node) => [node.run_id, node.run_name])), [lineage]);
  const columns: Column<Checkpoint>[] = [
    {
      key: "what",
      header: "Checkpoint",
      isTitle: true,
      width: "minmax(0, 1fr)",
      cell: (one) => (
        <Text component={Link} to={`${here}/${one.id}`} size="sm" fw={560} c="inherit">
          {one.round_number === null ? "Uploaded base" : `Round ${one.round_number}`}
        </Text>
      ),
    },
    {
      key: "run",
      header: "Made by",
      width: "minmax(0, 1.6fr)",
      cell: (one) =>
        one.run_id === null ? (
          <Text size="sm" c="dimmed">
            somebody&apos;s upload
          </Text>
        ) : (
          <Anchor component={Link} to={`/f/${slug}/runs/${one.run_id}`} size="sm">
            {names.get(one.run_id) ?? "a run"}
          </Anchor>
        ),
    },
    { key: "size", header: "Size", width: "90px", align: "end", cell: (one) => <Bytes value={one.size} /> },
    { key: "digest", header: "Digest", width: "140px", cell: (one) => <Digest value={one.digest} /> },
    { key: "created", header: "Created", width: "110px", align: "end", cell: (one) => <Ago at={one.created_at} /> },
    {
      key: "download",
      header: "Download",
      hideHeader: true,
      width: "36px",
      cell: (one) => (
        <Tooltip label={`Download ${fileName(one)}`}>
          <ActionIcon
            component="a"
            href={contentHref(slug, one.id)}
            download={fileName(one)}
            variant="subtle"
            color="gray"
            aria-label={`Download ${fileName(one)}`}
          >
            <IconDownload size={16} aria-hidden />
          </ActionIcon>
        </Tooltip>
      ),
    },
  ];
  return (
    <DataTable
      label="Checkpoints, newest first"
      rows={checkpoints}
      columns={columns}
      rowKey={(one) => one.id}
      href={(one) => `${here}/${one.id}`}
      footer={`${plural(checkpoints.length, "checkpoint")}${isComplete ? "" : ", more are on their way"}`}
    />
  );
}
