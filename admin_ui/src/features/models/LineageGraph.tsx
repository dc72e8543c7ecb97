import { Text, VisuallyHidden } from "@mantine/core";
import { IconUpload } from "@tabler/icons-react";
import { useMemo } from "react";
import { Link } from "react-router";

import { RUN_STATES } from "@/components/states";
import classes from "@/features/models/LineageGraph.module.css";
import type { PlacedNode } from "@/features/models/lineageLayout";
import { NODE, place, roundsOf, tellParent } from "@/features/models/lineageLayout";
import type { Lineage } from "@/features/models/models";
import { formatMetric } from "@/format/sizes";
import { formatDay } from "@/format/times";

interface Props {
  slug: string;
  model: string;
  lineage: Lineage;
}

/** Runs and uploaded bases as they come from each other: a list of links for who does not see the lines. */
export function LineageGraph({ slug, model, lineage }: Props) {
  const { nodes, edges, width, height } = useMemo(() => place(lineage.nodes), [lineage]);
  return (
    <>
      <div className={classes.scroll} tabIndex={0} role="group" aria-label="Lineage, oldest first">
        <div className={classes.canvas} style={{ width, height }}>
          <svg className={classes.edges} width={width} height={height} aria-hidden>
            {edges.map((edge) => (
              <path key={edge.key} d={edge.path} />
            ))}
          </svg>
          <ol className={classes.nodes}>
            {nodes.map((one) => (
              <li key={one.key} className={classes.place} style={{ width: NODE.width, height: NODE.height, left: one.x, top: one.y }}>
                <Node slug={slug} model={model} placed={one} />
              </li>
            ))}
          </ol>
        </div>
      </div>
      {lineage.more && (
        <Text size="xs" c="dimmed" mt={6}>
          There are older runs than these.
        </Text>
      )}
    </>
  );
}

function Node({ slug, model, placed }: { slug: string; model: string; placed: PlacedNode }) {
  const { node } = placed;
  const to =
    node.run_id === null
      ? `/f/${slug}/models/${encodeURIComponent(model)}/checkpoints/${node.latest_checkpoint_id}`
      : `/f/${slug}/runs/${node.run_id}`;
  const look = node.state === null ? null : RUN_STATES[node.state];
  return (
    <Link to={to} className={classes.node} data-base={node.run_id === null || undefined}>
      <span className={classes.name}>
        {look === null ? (
          <IconUpload size={13} aria-hidden />
        ) : (
          <span className={classes.dot} style={{ background: `var(--mantine-color-${look.colour}-filled)` }} aria-hidden />
        )}
        <span className={classes.words}>{node.run_name ?? "Uploaded base"}</span>
      </span>
      <span className={classes.line}>
        {node.run_id === null ? formatDay(new Date(node.created_at)) : `${look?.label ?? ""}, ${roundsOf(node)}`}
      </span>
      <span className={classes.line}>
        {[
          node.from_round === null ? null : `from round ${node.from_round}`,
          node.metric === null ? null : `${node.metric.name} ${formatMetric(node.metric.value)}`,
        ]
          .filter((one) => one !== null)
          .join(" · ")}
        <VisuallyHidden>{tellParent(placed)}</VisuallyHidden>
      </span>
    </Link>
  );
}
