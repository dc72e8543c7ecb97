/** A new run: a plan from a form, and what it would do before it is started. */
import { Button, Stack, Text } from "@mantine/core";
import { IconBox, IconLock } from "@tabler/icons-react";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { useNavigate, useSearchParams } from "react-router";

import { keys } from "@/api/keys";
import { useListing } from "@/api/paging";
import type { Run } from "@/api/types";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { useAction } from "@/components/actions";
import { overviewQuery, useSlug } from "@/features/federations/federations";
import { nextName, prune } from "@/features/plans/drafts";
import type { JsonObject } from "@/features/plans/json";
import { makeOnceKeys } from "@/features/plans/onceKeys";
import { PlanEditor } from "@/features/plans/PlanEditor";
import type { Hint } from "@/features/plans/PlanEditor";
import type { Field } from "@/features/plans/planSchema";
import { asPlan, createRun, modelChoices, planFieldsQuery } from "@/features/plans/plans";
import { runQuery, runsListing } from "@/features/runs/runs";

const ROUNDS = 10; // of a run that nobody has said more about

export function NewRunPage() {
  const slug = useSlug();
  const [search] = useSearchParams();
  const like = search.get("like");
  const overview = useQuery(overviewQuery(slug));
  const fields = useQuery(planFieldsQuery);
  const models = useListing(modelChoices(slug));
  const runs = useListing(runsListing(slug), { all: false });
  const example = useQuery({ ...runQuery(slug, like ?? ""), enabled: like !== null });
  const error = overview.error ?? fields.error ?? models.error ?? runs.error ?? example.error;
  const isMissing = !overview.data || !fields.data || !models.isComplete || runs.isPending || (like !== null && !example.data);
  return (
    <>
      <PageHeader
        title="New run"
        text={example.data ? `Like ${example.data.name}, from the newest checkpoint.` : "A plan says everything that a run does."}
        parents={[{ label: "Runs", to: `/f/${slug}/runs` }]}
      />
      {error && isMissing ? (
        <Problem error={error} />
      ) : isMissing ? (
        <Loading rows={10} />
      ) : !overview.data.federation.my_actions?.includes("run") ? (
        <EmptyState icon={IconLock} title="Your role does not start runs">
          Researchers and owners of the federation do. An owner can change your role.
        </EmptyState>
      ) : models.items.length === 0 ? (
        <NoModel />
      ) : (
        <NewRun
          key={like ?? ""}
          fields={fields.data}
          models={models.items.map((model) => model.name)}
          runs={runs.items}
          {...(example.data ? { example: example.data } : {})}
        />
      )}
    </>
  );
}

function NoModel() {
  return (
    <EmptyState
      icon={IconBox}
      title="There is no model to train yet"
      command="hansa model create heart --trainer examples.heart_disease.trainer:trainer"
    >
      A run trains a model of the federation from one of its checkpoints. Make the first from your trainer, in a
      terminal that is signed in to this hub:
    </EmptyState>
  );
}

interface Props {
  fields: readonly Field[];
  models: readonly string[];
  runs: readonly Run[]; // the newest
  example?: Run;
}

function NewRun({ fields, models, runs, example }: Props) {
  const [search] = useSearchParams();
  const taken = new Set(runs.map((run) => run.name));
  const checkpoint = search.get("checkpoint");
  const [initial] = useState(() => beginning(fields, models, taken, search.get("model"), example));
  const ofModel = initial["model"]; // that the address's checkpoint is of
  // What every plan has to say is no change of a default.
  const [baseline] = useState<JsonObject>(() =>
    Object.fromEntries(
      fields.flatMap(({ key, isRequired }) => {
        const value = initial[key];
        return isRequired && value !== undefined ? [[key, value]] : [];
      }),
    ),
  );
  return (
    <PlanEditor
      fields={fields}
      initial={initial}
      baseline={baseline}
      models={models}
      checkpointFor={(plan) => (plan["model"] === ofModel ? checkpoint : null)}
      trainingHint={(plan) => lastTraining(runs, plan["model"])}
      derive={(before, after) => renamed(before, after, taken)}
      actions={(plan, isWrong) => (
        <Actions plan={plan} checkpointId={plan["model"] === ofModel ? checkpoint : null} isWrong={isWrong} />
      )}
    />
  );
}

function beginning(
  fields: readonly Field[],
  models: readonly string[],
  taken: ReadonlySet<string>,
  model: string | null,
  example: Run | undefined,
): JsonObject {
  if (example !== undefined) {
    const plan = prune(fields, example.plan as unknown as JsonObject);
    return { ...plan, name: nextName(example.name, taken) };
  }
  const first = model !== null && models.includes(model) ? model : (models[0] ?? "");
  return { model: first, name: nextName(first, taken), rounds: ROUNDS };
}

/** Lets a name that was made for a model follow the choice of another. */
function renamed(before: JsonObject, after: JsonObject, taken: ReadonlySet<string>): JsonObject {
  const [old, model] = [before["model"], after["model"]];
  if (old === model || typeof old !== "string" || typeof model !== "string") return after;
  return before["name"] === nextName(old, taken) ? { ...after, name: nextName(model, taken) } : after;
}

/** Returns what the model's last run gave its trainers. */
function lastTraining(runs: readonly Run[], model: unknown): Hint | undefined {
  const last = runs.find((run) => run.plan.model === model && Object.keys(run.plan.training ?? {}).length > 0);
  return last && { label: `As in ${last.name}:`, values: last.plan.training as JsonObject };
}

interface ActionsProps {
  plan: JsonObject;
  checkpointId: string | null;
  isWrong: boolean;
}

function Actions({ plan, checkpointId, isWrong }: ActionsProps) {
  const slug = useSlug();
  const navigate = useNavigate();
  const client = useQueryClient();
  const [keyOf] = useState(makeOnceKeys);
  const create = useAction<boolean, Run>({
    run: (start) => {
      const body = { plan: asPlan(plan), checkpoint_id: checkpointId, start };
      return createRun(slug, body, keyOf(body));
    },
    quiet: true,
    after: (run) => {
      void client.invalidateQueries({ queryKey: keys.domain(slug, "runs") });
      return navigate(`/f/${slug}/runs/${run.id}`);
    },
  });
  return (
    <Stack gap="xs">
      {create.isError && <Problem error={create.error} />}
      <Button
        onClick={() => create.mutate(true)}
        loading={create.isPending && create.variables}
        disabled={isWrong || create.isPending}
      >
        Create and start
      </Button>
      <Button
        variant="default"
        onClick={() => create.mutate(false)}
        loading={create.isPending && !create.variables}
        disabled={isWrong || create.isPending}
      >
        Create as draft
      </Button>
      <Text size="xs" c="dimmed">
        {isWrong
          ? "Mend what the hub would refuse first."
          : "A draft waits until somebody starts it. Its plan is not changed any more."}
      </Text>
    </Stack>
  );
}
