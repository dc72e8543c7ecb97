import { Anchor, Button, Text } from "@mantine/core";
import { useMemo, useState } from "react";
import { Link } from "react-router";

import { Panel } from "@/components/Panel";
import { Ago } from "@/components/values";
import classes from "@/features/models/CardLineage.module.css";
import { stretches } from "@/features/models/lineagePath";
import type { ModelCard } from "@/features/models/models";

const SHOWN = 12;

/** What a checkpoint comes from, nearest first: a run's rounds together. */
export function CardLineage({ slug, card }: { slug: string; card: ModelCard }) {
  const [all, setAll] = useState(false);
  const path = useMemo(() => stretches(card.lineage), [card.lineage]);
  const here = `/f/${slug}/models/${encodeURIComponent(card.model)}/checkpoints`;
  return (
    <Panel title="Where it comes from">
      {path.length === 0 ? (
        <Text size="sm" c="dimmed">
          From nothing: somebody uploaded it.
        </Text>
      ) : (
        <ol className={classes.path}>
          {(all ? path : path.slice(0, SHOWN)).map(({ newest, oldest, title }) => (
            <li key={newest.checkpoint_id} className={classes.step}>
              <Anchor component={Link} to={`${here}/${newest.checkpoint_id}`} size="sm" fw={560}>
                {title}
              </Anchor>
              <Text size="xs" c="dimmed">
                {newest.run_id === null ? "uploaded" : "made"} <Ago at={newest.created_at} />
                {oldest !== newest && (
                  <>
                    , back to{" "}
                    <Anchor component={Link} to={`${here}/${oldest.checkpoint_id}`} size="xs" underline="always">
                      round {oldest.round_number}
                    </Anchor>
                  </>
                )}
              </Text>
            </li>
          ))}
        </ol>
      )}
      {path.length > SHOWN && !all && (
        <Button variant="subtle" size="xs" mt={4} onClick={() => setAll(true)}>
          Show all {path.length}
        </Button>
      )}
      {card.lineage_more && (
        <Text size="xs" c="dimmed" mt={6}>
          It goes further back: see the model&apos;s lineage.
        </Text>
      )}
    </Panel>
  );
}
