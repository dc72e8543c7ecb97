/** Fields of one value: text, numbers, switches, choices, lists of names. */
import { Autocomplete, NumberInput, Select, Switch, TagsInput, TextInput } from "@mantine/core";
import { useState } from "react";

import type { FieldProps } from "@/features/plans/formAids";
import { fieldId, useFormAids } from "@/features/plans/formAids";
import { say } from "@/features/plans/json";
import classes from "@/features/plans/plans.module.css";
import { titleOf } from "@/features/plans/layout";
import type { ChoiceField, Field, NamesField, NumberField, SwitchField, TextField } from "@/features/plans/planSchema";
import { errorsAt, errorsWithin } from "@/features/plans/planErrors";
import { parseNumber } from "@/features/plans/trainingValues";
import { formatBytes } from "@/format/sizes";
import { formatSeconds } from "@/format/times";

const BELOW = ["label", "input", "error", "description"] as const;

/** Returns what all inputs of a field have in common. */
function useInput(field: Field, path: string) {
  const { errors, isChanged } = useFormAids();
  const wrong = field.kind === "names" ? errorsWithin(errors, path) : errorsAt(errors, path);
  return {
    id: fieldId(path),
    label: <FieldLabel title={titleOf(path, field)} isChanged={isChanged(path)} />,
    description: field.help,
    inputWrapperOrder: [...BELOW],
    error: wrong.length === 0 ? null : wrong.join(" "),
    withAsterisk: field.isRequired,
  };
}

/** A field's title; a dot beside it says that it was changed. */
export function FieldLabel({ title, isChanged }: { title: string; isChanged: boolean }) {
  return (
    <>
      {title}
      {isChanged && <span className={classes.changed} title="Changed" aria-hidden />}
    </>
  );
}

export function TextInputField({ field, path, value, onChange }: FieldProps<TextField>) {
  const input = useInput(field, path);
  const aids = useFormAids();
  const shown = typeof value === "string" ? value : value === undefined ? fallbackText(field) : JSON.stringify(value);
  const choices = aids.choices(path);
  const suggestions = aids.suggestions(path);
  if (choices !== undefined) {
    return (
      <Select
        {...input}
        data={[...choices]}
        value={shown === "" ? null : shown}
        searchable={choices.length > 8}
        allowDeselect={false}
        onChange={(next) => onChange(next ?? undefined)}
      />
    );
  }
  const plain = {
    ...input,
    value: shown,
    autoComplete: "off",
    spellCheck: false,
    ...(field.longest === undefined ? {} : { maxLength: field.longest }),
  };
  if (suggestions.length > 0) return <Autocomplete {...plain} data={[...suggestions]} onChange={onChange} />;
  return <TextInput {...plain} onChange={(event) => onChange(event.currentTarget.value)} />;
}

function fallbackText(field: Field): string {
  return typeof field.fallback === "string" ? field.fallback : "";
}

export function NumberInputField(props: FieldProps<NumberField>) {
  return props.field.isWhole ? <WholeField {...props} /> : <DecimalField {...props} />;
}

function WholeField({ field, path, value, onChange }: FieldProps<NumberField>) {
  const input = useInput(field, path);
  const shown = value ?? field.fallback ?? "";
  return (
    <NumberInput
      {...input}
      description={inWords(path, shown, field.help)}
      value={typeof shown === "number" || typeof shown === "string" ? shown : ""}
      allowDecimal={false}
      clampBehavior="none"
      placeholder={field.isNullable ? "none" : ""}
      {...(field.least === undefined ? {} : { min: field.least })}
      {...(field.most === undefined || field.most > Number.MAX_SAFE_INTEGER ? {} : { max: field.most })}
      onChange={(next) => onChange(next)}
      // Empty while it is typed over; left empty it is as by default.
      onBlur={() => value === "" && onChange(undefined)}
    />
  );
}

/** Accepts 1e-4 too, which an input of numbers does not. */
function DecimalField({ field, path, value, onChange }: FieldProps<NumberField>) {
  const input = useInput(field, path);
  const shown = value ?? field.fallback ?? null;
  const [typed, setTyped] = useState(numberText(shown));
  if (typed !== "" && !Object.is(parseNumber(typed) ?? null, shown)) setTyped(numberText(shown));
  return (
    <TextInput
      {...input}
      description={inWords(path, shown, field.help)}
      value={typed}
      inputMode="decimal"
      autoComplete="off"
      placeholder={field.isNullable ? "none" : ""}
      onChange={(event) => {
        setTyped(event.currentTarget.value);
        onChange(parseNumber(event.currentTarget.value));
      }}
      onBlur={() => setTyped(numberText(shown))}
    />
  );
}

function numberText(value: unknown): string {
  return typeof value === "number" || typeof value === "string" ? String(value) : "";
}

/** Returns a field's help, after seconds and bytes as people read them. */
function inWords(path: string, value: unknown, help: string): string {
  if (typeof value !== "number" || !Number.isFinite(value) || value <= 0) return help;
  if (path.endsWith("seconds") && value >= 60) return `${formatSeconds(value)}. ${help}`;
  if (path.endsWith("bytes") && value >= 1000) return `${formatBytes(value)}. ${help}`;
  return help;
}

export function SwitchInputField({ field, path, value, onChange }: FieldProps<SwitchField>) {
  const { id, label, description, error } = useInput(field, path);
  return (
    <Switch
      id={id}
      label={label}
      description={description}
      error={error}
      className={classes.switch}
      checked={(value ?? field.fallback) === true}
      onChange={(event) => onChange(event.currentTarget.checked)}
    />
  );
}

export function ChoiceInputField({ field, path, value, onChange }: FieldProps<ChoiceField>) {
  const input = useInput(field, path);
  const shown = value ?? field.fallback;
  return (
    <Select
      {...input}
      data={field.options.map((option) => ({ value: String(option), label: String(option) }))}
      value={shown == null ? null : say(shown)}
      allowDeselect={false}
      clearable={field.isNullable}
      onChange={(next) => onChange(field.options.find((option) => String(option) === next))}
    />
  );
}

export function NamesInputField({ field, path, value, onChange }: FieldProps<NamesField>) {
  const input = useInput(field, path);
  const { suggestions } = useFormAids();
  const shown = value ?? field.fallback;
  const names = Array.isArray(shown) ? shown.map((name) => (typeof name === "string" ? name : JSON.stringify(name))) : [];
  return (
    <TagsInput
      {...input}
      data={[...suggestions(path)]}
      value={names}
      placeholder={names.length === 0 ? "Type a name, then Enter" : ""}
      onChange={onChange}
      {...(field.most === undefined ? {} : { maxTags: field.most })}
    />
  );
}
