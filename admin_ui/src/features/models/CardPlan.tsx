import { Anchor, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import type { RunPlan } from "@/api/types";
import { Facts } from "@/components/Facts";
import { Panel } from "@/components/Panel";
import { QueryView } from "@/components/QueryView";
import { prune } from "@/features/plans/drafts";
import type { JsonObject } from "@/features/plans/json";
import { flatten, say } from "@/features/plans/json";
import { planFieldsQuery } from "@/features/plans/plans";
import { humane } from "@/format/words";

const TOLD_ELSEWHERE = new Set(["name", "model", "description"]);

/** What its run was told to do, as far as it is not as by default. */
export function CardPlan({ slug, runId, plan }: { slug: string; runId: string; plan: RunPlan }) {
  const fields = useQuery(planFieldsQuery);
  return (
    <Panel
      title="How it was trained"
      aside={
        <Anchor component={Link} to={`/f/${slug}/runs/${runId}?tab=plan`} size="sm">
          The whole plan
        </Anchor>
      }
    >
      <QueryView query={fields} rows={3}>
        {(known) => {
          // A plan is JSON: its type only names its fields.
          const set = flatten(prune(known, plan as unknown as JsonObject));
          const shown = [...set].filter(([path]) => !TOLD_ELSEWHERE.has(path));
          return (
            <>
              <Facts facts={shown.map(([path, value]) => [humane(path.replaceAll(".", ", ")), say(value)])} />
              <Text size="xs" c="dimmed" mt="sm">
                What is not named is as by default.
              </Text>
            </>
          );
        }}
      </QueryView>
    </Panel>
  );
}
