/** A fork: a new run from a checkpoint of another, with a changed plan. */
import { Button, Group, NumberInput, Stack, Text } from "@mantine/core";
import { IconLock } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useNavigate, useParams, useSearchParams } from "react-router";

import { keys } from "@/api/keys";
import { useListing } from "@/api/paging";
import type { Run } from "@/api/types";
import { Command } from "@/components/Command";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { useAction } from "@/components/actions";
import { overviewQuery, useSlug } from "@/features/federations/federations";
import { differences, holdsNull, mergePatch, nextName, prune } from "@/features/plans/drafts";
import { forkCommand } from "@/features/plans/forkCommand";
import type { JsonObject } from "@/features/plans/json";
import { say } from "@/features/plans/json";
import { makeOnceKeys } from "@/features/plans/onceKeys";
import { PlanEditor } from "@/features/plans/PlanEditor";
import type { Field } from "@/features/plans/planSchema";
import { forkRun, planFieldsQuery } from "@/features/plans/plans";
import classes from "@/features/plans/plans.module.css";
import { roundQuery, runQuery, runsListing } from "@/features/runs/runs";

export function ForkPage() {
  const slug = useSlug();
  const { runId = "" } = useParams();
  const overview = useQuery(overviewQuery(slug));
  const fields = useQuery(planFieldsQuery);
  const runs = useListing(runsListing(slug), { all: false });
  const parent = useQuery(runQuery(slug, runId));
  const error = overview.error ?? fields.error ?? runs.error ?? parent.error;
  const isMissing = !overview.data || !fields.data || runs.isPending || !parent.data;
  return (
    <>
      <PageHeader
        title={parent.data ? `Fork ${parent.data.name}` : "Fork"}
        text="A new run goes on from a checkpoint of this one, with whatever you change. This one stays as it is."
        parents={[
          { label: "Runs", to: `/f/${slug}/runs` },
          ...(parent.data ? [{ label: parent.data.name, to: `/f/${slug}/runs/${runId}` }] : []),
        ]}
      />
      {error && isMissing ? (
        <Problem error={error} />
      ) : isMissing ? (
        <Loading rows={10} />
      ) : !overview.data.federation.my_actions?.includes("run") ? (
        <EmptyState icon={IconLock} title="Your role does not start runs">
          Researchers and owners of the federation do. An owner can change your role.
        </EmptyState>
      ) : (
        <Fork key={runId} fields={fields.data} parent={parent.data} taken={new Set(runs.items.map((run) => run.name))} />
      )}
    </>
  );
}

const LEFT = new Set(["model"]); // a fork trains the model of its parent

interface Props {
  fields: readonly Field[];
  parent: Run;
  taken: ReadonlySet<string>;
}

function Fork({ fields, parent, taken }: Props) {
  const slug = useSlug();
  const [search, setSearch] = useSearchParams();
  const asked = Number(search.get("round") ?? Number.NaN);
  const isChosen = Number.isInteger(asked) && asked >= 0 && asked <= parent.rounds_completed;
  const number = isChosen ? asked : parent.rounds_completed;
  const isBetween = number > 0 && number < parent.rounds_completed;
  const round = useQuery({ ...roundQuery(slug, parent.id, number), enabled: isBetween });
  // The parent's plan under a name of its own: the name alone is no change.
  const [baseline] = useState(() => ({
    ...prune(fields, parent.plan as unknown as JsonObject),
    name: nextName(`${parent.name.replace(/-fork-\d+$/, "")}-fork`, taken),
  }));
  const checkpointId =
    number === 0
      ? parent.base_checkpoint_id
      : isBetween
        ? (round.data?.checkpoint_id ?? null)
        : parent.latest_checkpoint_id;

  function choose(next: number): void {
    setSearch(
      (old) => {
        old.set("round", String(next));
        return old;
      },
      { replace: true },
    );
  }

  return (
    <PlanEditor
      fields={fields}
      initial={baseline}
      baseline={baseline}
      left={LEFT}
      models={[parent.plan.model]}
      checkpointFor={() => checkpointId}
      trainingHint={() => undefined}
      above={
        <Panel title="Where it goes on from">
          <Group align="flex-end" gap="sm">
            <NumberInput
              label="Checkpoint after round"
              w={200}
              min={0}
              max={parent.rounds_completed}
              allowDecimal={false}
              clampBehavior="strict"
              value={number}
              onChange={(next) => typeof next === "number" && choose(next)}
            />
            <Button variant="default" onClick={() => choose(0)} disabled={number === 0}>
              The base
            </Button>
            <Button
              variant="default"
              onClick={() => choose(parent.rounds_completed)}
              disabled={number === parent.rounds_completed}
            >
              The newest
            </Button>
          </Group>
          <Text size="sm" c="dimmed" mt="xs">
            {number === 0
              ? `From the base checkpoint, as ${parent.name} did.`
              : `Round ${number} of ${parent.rounds_completed} that ${parent.name} has completed.`}
          </Text>
          {isBetween && round.isError && <Problem error={round.error} />}
        </Panel>
      }
      beside={(plan) => <Changes fields={fields} parent={parent} baseline={baseline} plan={plan} round={number} />}
      actions={(plan, isWrong) => (
        <Actions fields={fields} parent={parent} baseline={baseline} plan={plan} round={number} isWrong={isWrong} />
      )}
    />
  );
}

interface ForkedProps {
  fields: readonly Field[];
  parent: Run;
  baseline: JsonObject;
  plan: JsonObject;
  round: number;
}

/** Returns the request for a fork with this plan. */
function requestOf({ fields, baseline, plan, round }: Omit<ForkedProps, "parent">) {
  const name = typeof plan["name"] === "string" ? plan["name"] : "";
  return { name, round_number: round, changes: mergePatch(fields, { ...baseline, name }, { ...plan, name }) };
}

function Changes(props: ForkedProps) {
  const { fields, parent, baseline, plan } = props;
  const changed = differences(fields, baseline, plan).filter((one) => one.path !== "name");
  const { name, round_number, changes } = requestOf(props);
  return (
    <Panel title="What is changed">
      {changed.length === 0 ? (
        <Text size="sm" c="dimmed">
          Nothing but the name. The fork goes on with the same plan.
        </Text>
      ) : (
        <table className={classes.differences}>
          <thead>
            <tr>
              <th scope="col">Field</th>
              <th scope="col">Was</th>
              <th scope="col">Will be</th>
            </tr>
          </thead>
          <tbody>
            {changed.map(({ path, before, after }) => (
              <tr key={path}>
                <th scope="row" className="mono">
                  {path}
                </th>
                <td>{say(before)}</td>
                <td>{say(after)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      )}
      <Text size="xs" c="dimmed" mt="md" mb={6}>
        The same from a terminal:
      </Text>
      <Command text={forkCommand(parent.id, name, round_number, changes)} />
    </Panel>
  );
}

function Actions({ isWrong, ...props }: ForkedProps & { isWrong: boolean }) {
  const { parent, plan } = props;
  const slug = useSlug();
  const navigate = useNavigate();
  const client = useQueryClient();
  const [keyOf] = useState(makeOnceKeys);
  const fork = useAction<boolean, Run>({
    run: (start) => {
      const body = { ...requestOf(props), start };
      return forkRun(slug, parent.id, body, keyOf(body));
    },
    quiet: true,
    after: (run) => {
      void client.invalidateQueries({ queryKey: keys.domain(slug, "runs") });
      return navigate(`/f/${slug}/runs/${run.id}`);
    },
  });
  const hasNull = holdsNull(plan["training"]);
  const isRefused = isWrong || hasNull;
  return (
    <Stack gap="xs">
      {fork.isError && <Problem error={fork.error} />}
      <Button
        onClick={() => fork.mutate(true)}
        loading={fork.isPending && fork.variables}
        disabled={isRefused || fork.isPending}
      >
        Fork and start
      </Button>
      <Button
        variant="default"
        onClick={() => fork.mutate(false)}
        loading={fork.isPending && !fork.variables}
        disabled={isRefused || fork.isPending}
      >
        Fork as draft
      </Button>
      {isWrong && (
        <Text size="xs" c="dimmed">
          Mend what the hub would refuse first.
        </Text>
      )}
      {hasNull && (
        <Text size="xs" c="var(--mantine-color-error)">
          A fork cannot set a value of training to null: in what is sent, null takes a value away. Remove it.
        </Text>
      )}
    </Stack>
  );
}
