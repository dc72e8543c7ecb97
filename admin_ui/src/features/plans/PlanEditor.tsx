/** The form of a plan with its preview; what becomes of the plan the page decides. */
import { SegmentedControl, Stack } from "@mantine/core";
import { useDebouncedValue } from "@mantine/hooks";
import { keepPreviousData, useQuery } from "@tanstack/react-query";
import type { ReactNode } from "react";
import { useMemo, useState } from "react";
import { useSearchParams } from "react-router";

import { useListing } from "@/api/paging";
import { Problem } from "@/components/Problem";
import { useSlug } from "@/features/federations/federations";
import { differences, prune } from "@/features/plans/drafts";
import type { FormAids } from "@/features/plans/formAids";
import { FormAidsContext, fieldId } from "@/features/plans/formAids";
import type { Json, JsonObject } from "@/features/plans/json";
import { same, valueAt, withValue } from "@/features/plans/json";
import { KeyValueField } from "@/features/plans/KeyValueField";
import type { Placed } from "@/features/plans/layout";
import { sectionOf, sectionsOf } from "@/features/plans/layout";
import { errorsByPath } from "@/features/plans/planErrors";
import type { Field } from "@/features/plans/planSchema";
import { PlanSection, isWithin } from "@/features/plans/PlanSection";
import { PlanJson, PlanToml } from "@/features/plans/PlanText";
import { siteChoices, verdictQuery } from "@/features/plans/plans";
import { PreviewPanel } from "@/features/plans/PreviewPanel";
import classes from "@/features/plans/plans.module.css";

export interface Hint {
  label: string;
  values: JsonObject;
}

interface Props {
  fields: readonly Field[];
  initial: JsonObject;
  baseline: JsonObject; // what changes are told against
  left?: ReadonlySet<string>; // fields that are not to be changed here
  models: readonly string[];
  checkpointFor: (plan: JsonObject) => string | null; // that the run would start from; null: the newest
  trainingHint: (plan: JsonObject) => Hint | undefined;
  derive?: (before: JsonObject, after: JsonObject) => JsonObject; // what follows from a change
  above?: ReactNode;
  beside?: (plan: JsonObject) => ReactNode; // above the preview
  actions: (plan: JsonObject, isWrong: boolean) => ReactNode; // always in view
}

const SETTLED_MS = 350; // without a key typed

type View = "form" | "toml" | "json";

export function PlanEditor(props: Props) {
  const { fields, baseline, left, models } = props;
  const slug = useSlug();
  const [search, setSearch] = useSearchParams();
  const view = viewOf(search.get("view"));
  const [draft, setDraft] = useState(props.initial);
  const plan = useMemo(() => prune(fields, draft), [fields, draft]);
  const checkpointId = props.checkpointFor(plan);
  const [settled] = useDebouncedValue(plan, SETTLED_MS);
  const asked = useQuery({ ...verdictQuery(slug, settled, checkpointId), placeholderData: keepPreviousData });
  const sections = useMemo(() => sectionsOf(fields, left), [fields, left]);
  const units = useMemo(() => sections.flatMap((section) => [...section.main, ...section.more]), [sections]);
  const errors = useMemo(
    () => errorsByPath(asked.data?.problem?.problem.errors ?? [], units.map((unit) => unit.path)),
    [asked.data, units],
  );
  const changes = useMemo(() => differences(fields, baseline, plan), [fields, baseline, plan]);
  const [open, setOpen] = useState<ReadonlySet<string>>(
    () => new Set(sections.filter((section) => section.isOpen).map((section) => section.id)),
  );
  const aids = useAids(errors, changes.map((change) => change.path), models);
  const isStale = asked.isPlaceholderData || !same(plan, settled);

  function change(path: string, value: Json | undefined): void {
    setDraft((before) => {
      const after = withValue(before, path.split("."), value);
      return props.derive?.(before, after) ?? after;
    });
  }

  function reset(placed: readonly Placed[]): void {
    setDraft((before) =>
      placed.reduce((made, { path }) => withValue(made, path.split("."), valueAt(baseline, path.split("."))), before),
    );
  }

  function goTo(path: string): void {
    const section = sectionOf(path, sections);
    if (section === undefined) return;
    setOpen(new Set([...open, section.id]));
    if (view !== "form") show("form");
    window.setTimeout(() => {
      const unit = units.find((candidate) => isWithin(path, candidate.path));
      const target = document.getElementById(fieldId(path)) ?? document.getElementById(fieldId(unit?.path ?? ""));
      target?.scrollIntoView({ block: "center", behavior: "smooth" });
      target?.focus({ preventScroll: true });
    }, 60);
  }

  function show(next: View): void {
    setSearch(
      (old) => {
        if (next === "form") old.delete("view");
        else old.set("view", next);
        return old;
      },
      { replace: true },
    );
  }

  function extras({ path, field }: Placed): ReactNode {
    if (path !== "training" || field.kind !== "free") return null;
    const hint = props.trainingHint(plan);
    return (
      <KeyValueField
        field={field}
        path={path}
        value={valueAt(draft, [path])}
        onChange={(value) => change(path, value)}
        {...(hint === undefined ? {} : { hint })}
      />
    );
  }

  const general = errors.get("") ?? [];
  return (
    <div className={classes.layout}>
      <Stack gap="md">
        {props.above}
        <SegmentedControl
          aria-label="How the plan is shown"
          value={view}
          onChange={(next) => show(viewOf(next))}
          data={[
            { value: "form", label: "Form" },
            { value: "toml", label: "As TOML" },
            { value: "json", label: "As JSON" },
          ]}
          style={{ alignSelf: "start" }}
        />
        {view === "toml" && <PlanToml plan={plan} />}
        {view === "json" && <PlanJson plan={plan} use={setDraft} />}
        {view === "form" && (
          <FormAidsContext.Provider value={aids}>
            {general.length > 0 && asked.data?.problem && (
              <Problem error={new Error(general.join(" "))} />
            )}
            <div className={classes.sections}>
              {sections.map((section) => {
                const placed = [...section.main, ...section.more];
                const inside = changes.filter((one) => placed.some((unit) => isWithin(one.path, unit.path)));
                return (
                  <PlanSection
                    key={section.id}
                    section={section}
                    plan={draft}
                    changes={inside}
                    problems={[...errors.keys()].filter((path) => sectionOf(path, sections) === section).length}
                    isOpen={open.has(section.id)}
                    toggle={() => setOpen(toggled(open, section.id))}
                    onChange={change}
                    reset={() => reset(placed.filter((unit) => inside.some((one) => isWithin(one.path, unit.path))))}
                    extras={extras}
                  />
                );
              })}
            </div>
          </FormAidsContext.Provider>
        )}
      </Stack>
      <div className={classes.side}>
        <div className={classes.told}>
          {props.beside?.(plan)}
          <PreviewPanel verdict={asked.data} error={asked.error} isStale={isStale} errors={errors} goTo={goTo} />
        </div>
        {props.actions(plan, asked.data?.problem != null)}
      </div>
    </div>
  );
}

/** Returns what the fields need, with names of this federation to suggest. */
function useAids(errors: FormAids["errors"], changed: readonly string[], models: readonly string[]): FormAids {
  const { items: sites } = useListing(siteChoices(useSlug()));
  const names = useMemo(() => sites.map((site) => site.name).sort(), [sites]);
  const labels = useMemo(() => [...new Set(sites.flatMap((site) => Object.keys(site.labels)))].sort(), [sites]);
  return {
    errors,
    isChanged: (path) => changed.some((one) => isWithin(one, path)),
    choices: (path) => (path === "model" ? models : undefined),
    suggestions: (path) => {
      if (["cohort.pinned", "evaluation.evaluators", "strategy.root"].includes(path)) return names;
      return path === "cohort.stratify_by" || path.endsWith("labels") ? labels : [];
    },
  };
}

function viewOf(name: string | null): View {
  return name === "toml" || name === "json" ? name : "form";
}

function toggled(open: ReadonlySet<string>, id: string): ReadonlySet<string> {
  const next = new Set(open);
  if (!next.delete(id)) next.add(id);
  return next;
}
