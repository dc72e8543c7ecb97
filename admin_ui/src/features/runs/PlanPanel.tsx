/** What a run was told to do: first what differs from the defaults, then all of it. */
import { Anchor, Grid, Group, SegmentedControl, Stack, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { useMemo, useState } from "react";
import { Link } from "react-router";

import type { Run } from "@/api/types";
import { Command } from "@/components/Command";
import { Facts } from "@/components/Facts";
import { Panel } from "@/components/Panel";
import { QueryView } from "@/components/QueryView";
import { Ago, Digest } from "@/components/values";
import { prune } from "@/features/plans/drafts";
import type { JsonObject } from "@/features/plans/json";
import { flatten, say } from "@/features/plans/json";
import { sectionsOf } from "@/features/plans/layout";
import type { Field } from "@/features/plans/planSchema";
import { planFieldsQuery } from "@/features/plans/plans";
import { writeToml } from "@/features/plans/toml";
import { planGroups } from "@/features/runs/planGroups";
import classes from "@/features/runs/PlanPanel.module.css";
import { runQuery } from "@/features/runs/runs";

interface Props {
  slug: string;
  run: Run;
}

export function PlanPanel({ slug, run }: Props) {
  const fields = useQuery(planFieldsQuery);
  return (
    <Grid gap="md">
      <Grid.Col span={{ base: 12, lg: 7 }}>
        <Panel title="Plan">
          <QueryView query={fields}>{(known) => <Plan fields={known} run={run} />}</QueryView>
        </Panel>
      </Grid.Col>
      <Grid.Col span={{ base: 12, lg: 5 }}>
        <Lineage slug={slug} run={run} />
      </Grid.Col>
    </Grid>
  );
}

type View = "readable" | "toml" | "json";

function Plan({ fields, run }: { fields: readonly Field[]; run: Run }) {
  const [view, setView] = useState<View>("readable");
  // A plan is JSON: its type only names its fields.
  const plan = run.plan as unknown as JsonObject;
  const set = useMemo(() => prune(fields, plan), [fields, plan]);
  const groups = useMemo(
    () => planGroups(sectionsOf(fields), flatten(set), flatten(plan)),
    [fields, set, plan],
  );
  return (
    <Stack gap="md">
      <SegmentedControl
        aria-label="How the plan is shown"
        size="xs"
        value={view}
        onChange={(value) => setView(value)}
        data={[
          { value: "readable", label: "Readable" },
          { value: "toml", label: "TOML" },
          { value: "json", label: "Full JSON" },
        ]}
        w="fit-content"
      />
      {view === "toml" && <Command text={writeToml(set)} label="Copy the plan" />}
      {view === "json" && <Command text={JSON.stringify(plan, null, 2)} label="Copy the plan" />}
      {view === "readable" && (
        <>
          {groups.map((group) => (
            <section key={group.title} aria-label={group.title}>
              <Text component="h3" size="sm" fw={600} mt={0} mb={6}>
                {group.title}
              </Text>
              <Facts facts={group.set.map(({ name, value }) => [name, <b key={name} className={classes.value}>{say(value)}</b>])} />
              {group.usual.length > 0 && (
                <details className={classes.usual}>
                  <summary>{group.usual.length} as by default</summary>
                  <Facts facts={group.usual.map(({ name, value }) => [name, say(value)])} />
                </details>
              )}
            </section>
          ))}
        </>
      )}
    </Stack>
  );
}

function Lineage({ slug, run }: Props) {
  const model = `/f/${slug}/models/${run.plan.model}`;
  const parent = useQuery({ ...runQuery(slug, run.parent_run_id ?? ""), enabled: run.parent_run_id != null });
  return (
    <Panel title="Lineage">
      <Facts
        facts={[
          [
            "Forked from",
            run.parent_run_id == null ? (
              "no other run"
            ) : (
              <Anchor key="parent" inherit component={Link} to={`/f/${slug}/runs/${run.parent_run_id}`}>
                {parent.data?.name ?? "another run"}
              </Anchor>
            ),
          ],
          [
            "Began from",
            <Anchor key="base" inherit component={Link} to={`${model}/checkpoints/${run.base_checkpoint_id}`}>
              its base checkpoint
            </Anchor>,
          ],
          [
            "Newest",
            run.latest_checkpoint_id === run.base_checkpoint_id ? (
              "no checkpoint of its own yet"
            ) : (
              <Anchor key="latest" inherit component={Link} to={`${model}/checkpoints/${run.latest_checkpoint_id}`}>
                {`the checkpoint of round ${run.rounds_completed}`}
              </Anchor>
            ),
          ],
          ["Plan digest", <Digest key="digest" value={run.plan_digest} characters={16} />],
          ["Run id", <Digest key="id" value={run.id} name="run's id" characters={13} />],
          ["Created", <Ago key="created" at={run.created_at} />],
          ["Started", <Ago key="started" at={run.started_at} never="not yet" />],
          ["Ended", <Ago key="ended" at={run.finished_at} never="not yet" />],
        ]}
      />
      <Group mt="md">
        <Command text={`hansa run watch --federation ${slug} ${run.name}`} w="100%" />
      </Group>
    </Panel>
  );
}
