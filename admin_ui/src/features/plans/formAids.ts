/** What every field of the form may need: the hub's errors, what to compare with, suggestions. */
import { createContext, useContext } from "react";

import type { PlanErrors } from "@/features/plans/planErrors";
import type { Json } from "@/features/plans/json";
import type { Field } from "@/features/plans/planSchema";

export interface FormAids {
  errors: PlanErrors;
  isChanged: (path: string) => boolean; // against what the form began with
  choices: (path: string) => readonly string[] | undefined; // one of these
  suggestions: (path: string) => readonly string[]; // or anything else
}

export const FormAidsContext = createContext<FormAids>({
  errors: new Map(),
  isChanged: () => false,
  choices: () => undefined,
  suggestions: () => [],
});

export function useFormAids(): FormAids {
  return useContext(FormAidsContext);
}

export interface FieldProps<Kind extends Field = Field> {
  field: Kind;
  path: string; // dotted
  value: Json | undefined; // undefined: as by default
  onChange: (value: Json | undefined) => void;
}

/** Returns the id of a field's input. */
export function fieldId(path: string): string {
  return `plan.${path}`;
}
