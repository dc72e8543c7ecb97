/** Which field of a plan stands in which section of the form, and what is open at first. */
import type { Json, JsonObject } from "@/features/plans/json";
import { valueAt } from "@/features/plans/json";
import type { Field } from "@/features/plans/planSchema";

/** A field of the form at its path: of the plan itself, or of a section that is always there. */
export interface Placed {
  path: string; // dotted
  field: Field;
}

export interface FormSection {
  id: string;
  title: string;
  about: string;
  isOpen: boolean; // at first
  main: Placed[];
  more: Placed[]; // shown when asked for
}

interface Spec {
  id: string;
  title: string;
  about: string;
  isOpen?: boolean;
  main: string[]; // paths; "cohort.*" is what is left of the section
  more?: string[];
}

const SPECS: readonly Spec[] = [
  {
    id: "basics",
    title: "Basics",
    about: "What is trained, and for how long.",
    isOpen: true,
    main: ["model", "name", "rounds", "seed"],
  },
  {
    id: "cohort",
    title: "Cohort",
    about: "Which sites take part in a round.",
    isOpen: true,
    main: ["cohort.min_sites", "cohort.choose", "cohort.size", "cohort.over_select", "cohort.stratify_by"],
    more: ["cohort.*"],
  },
  {
    id: "strategy",
    title: "Strategy",
    about: "How the answers of a round become the next checkpoint.",
    isOpen: true,
    main: ["strategy"],
  },
  {
    id: "training",
    title: "Local training",
    about: "What every site's trainer is given. The trainer checks it against its own configuration.",
    isOpen: true,
    main: ["training"],
  },
  {
    id: "evaluation",
    title: "Evaluation",
    about: "When the model is measured on held-out data, and by whom.",
    main: ["evaluation.*"],
  },
  {
    id: "secure",
    title: "Secure aggregation",
    about: "The hub learns the sum of the sites' updates and none of them.",
    main: ["secure"],
  },
  { id: "codec", title: "Codec", about: "How updates are encoded on their way to the hub.", main: ["codec"] },
  {
    id: "limits",
    title: "Deadlines and budget",
    about: "What ends a round or the run before its time.",
    main: ["deadlines.*", "budget.*", "early_stopping"],
  },
  {
    id: "advanced",
    title: "Advanced",
    about: "Asynchronous rounds, and tensors that are not shared with everybody.",
    main: ["buffer", "tensors.*"],
  },
];

const LAST = "advanced"; // where fields go that no section names

/** Returns the sections of the form: every field of the plan is in exactly one, less `left`. */
export function sectionsOf(fields: readonly Field[], left: ReadonlySet<string> = new Set()): FormSection[] {
  const units = fields.flatMap(unitsOf).filter((unit) => !left.has(unit.path));
  const named = new Set(SPECS.flatMap((spec) => [...spec.main, ...(spec.more ?? [])]));
  const stray = units.filter((unit) => !named.has(unit.path) && !named.has(rest(unit.path)));
  return SPECS.map((spec) => ({
    id: spec.id,
    title: spec.title,
    about: spec.about,
    isOpen: spec.isOpen ?? false,
    main: [...pick(units, spec.main, named), ...(spec.id === LAST ? stray : [])],
    more: pick(units, spec.more ?? [], named),
  })).filter((section) => section.main.length > 0);
}

function unitsOf(field: Field): Placed[] {
  if (field.kind !== "group" || field.isNullable) return [{ path: field.key, field }];
  return field.fields.map((inner) => ({ path: `${field.key}.${inner.key}`, field: inner }));
}

function pick(units: readonly Placed[], paths: readonly string[], named: ReadonlySet<string>): Placed[] {
  return paths.flatMap((path) =>
    units.filter((unit) => unit.path === path || (rest(unit.path) === path && !named.has(unit.path))),
  );
}

/** Returns what names all that is left of a field's section: "cohort.*" of "cohort.size". */
function rest(path: string): string {
  const [section, inner] = path.split(".");
  return inner === undefined ? "" : `${section ?? ""}.*`;
}

/** Returns the section that a path of the plan is in; undefined for the plan as a whole. */
export function sectionOf(path: string, sections: readonly FormSection[]): FormSection | undefined {
  const holds = (unit: Placed) => path === unit.path || path.startsWith(`${unit.path}.`);
  const heads = (unit: Placed) => path !== "" && unit.path.startsWith(`${path}.`);
  const all = (section: FormSection) => [...section.main, ...section.more];
  return sections.find((section) => all(section).some(holds)) ?? sections.find((section) => all(section).some(heads));
}

/** Whether a field means anything in this plan; one that is set is shown in any case. */
export function isShown(path: string, plan: JsonObject): boolean {
  const needs = NEEDS[path];
  if (needs === undefined || valueAt(plan, path.split(".")) !== undefined) return true;
  return needs(valueAt(plan, ["cohort", "choose"]) ?? "all");
}

const NEEDS: Record<string, (choose: Json) => boolean> = {
  "cohort.size": (choose) => choose !== "all",
  "cohort.over_select": (choose) => choose !== "all",
  "cohort.stratify_by": (choose) => choose === "stratified",
};

/** Returns a field's title where its own says too little beside fields of other sections. */
export function titleOf(path: string, field: Field): string {
  return TITLES[path] ?? field.title;
}

const TITLES: Record<string, string> = {
  "cohort.min_sites": "Fewest sites",
  "cohort.choose": "Choice of sites",
  "cohort.size": "Answers wanted",
  "cohort.pinned": "Pinned sites",
  "cohort.labels": "Site labels",
  "evaluation.every": "Every n-th round",
  "evaluation.final": "After the last round",
  "budget.seconds": "Time budget (seconds)",
  "budget.bytes": "Traffic budget (bytes)",
  buffer: "Asynchronous rounds",
  secure: "Secure aggregation",
  "tensors.personal": "Personal tensors",
  "tensors.frozen": "Frozen tensors",
  "tensors.groups": "Groups of tensors",
};
