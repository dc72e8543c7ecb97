/** A plan's values in the sections of its form: what was set, and what is as by default. Pure. */
import type { Json } from "@/features/plans/json";
import type { FormSection } from "@/features/plans/layout";
import { titleOf } from "@/features/plans/layout";
import { humane } from "@/format/words";

export interface PlanValue {
  name: string;
  value: Json;
}

export interface PlanGroup {
  title: string;
  set: PlanValue[];
  usual: PlanValue[];
}

/**
 * Returns the sections that have a value, those with something set first.
 *
 * `set` and `all` hold the leaves of the plan by dotted path: without its defaults, and whole.
 */
export function planGroups(
  sections: readonly FormSection[],
  set: ReadonlyMap<string, Json>,
  all: ReadonlyMap<string, Json>,
): PlanGroup[] {
  const groups = sections.map((section) => {
    const group: PlanGroup = { title: section.title, set: [], usual: [] };
    for (const { path, field } of [...section.main, ...section.more]) {
      for (const [leaf, value] of new Map([...all, ...set])) {
        if (leaf !== path && !leaf.startsWith(`${path}.`)) continue;
        const name = leaf === path ? titleOf(path, field) : humane(leaf.slice(path.length + 1).replaceAll(".", ", "));
        const isEmpty = value === null && !set.has(leaf);
        if (set.has(leaf)) group.set.push({ name, value });
        else if (!isEmpty) group.usual.push({ name, value });
      }
    }
    return group;
  });
  return groups
    .filter((group) => group.set.length + group.usual.length > 0)
    .sort((one, other) => Number(other.set.length > 0) - Number(one.set.length > 0));
}
