/** Any field of a plan: picks what shows its kind, and holds those that hold others. */
import { ActionIcon, Button, Group, Input, JsonInput, Select, Stack, Switch, Text } from "@mantine/core";
import { IconPlus, IconTrash } from "@tabler/icons-react";
import { useState } from "react";

import type { FieldProps } from "@/features/plans/formAids";
import { fieldId, useFormAids } from "@/features/plans/formAids";
import type { Json, JsonObject } from "@/features/plans/json";
import { isObject, same, withValue } from "@/features/plans/json";
import { KeyValueField } from "@/features/plans/KeyValueField";
import { titleOf } from "@/features/plans/layout";
import { errorsAt, errorsWithin } from "@/features/plans/planErrors";
import classes from "@/features/plans/plans.module.css";
import type { Field, GroupField, OtherField, RowsField, VariantsField } from "@/features/plans/planSchema";
import {
  ChoiceInputField,
  FieldLabel,
  NamesInputField,
  NumberInputField,
  SwitchInputField,
  TextInputField,
} from "@/features/plans/SimpleFields";

export function FieldView({ field, ...props }: FieldProps) {
  switch (field.kind) {
    case "text":
      return <TextInputField field={field} {...props} />;
    case "number":
      return <NumberInputField field={field} {...props} />;
    case "switch":
      return <SwitchInputField field={field} {...props} />;
    case "choice":
      return <ChoiceInputField field={field} {...props} />;
    case "names":
      return <NamesInputField field={field} {...props} />;
    case "map":
    case "free":
      return <KeyValueField field={field} {...props} />;
    case "group":
      return <GroupFields field={field} {...props} />;
    case "variants":
      return <VariantFields field={field} {...props} />;
    case "rows":
      return <RowFields field={field} {...props} />;
    case "other":
      return <JsonField field={field} {...props} />;
  }
}

interface FieldsProps {
  fields: readonly Field[];
  path: string;
  value: JsonObject;
  onChange: (value: JsonObject) => void;
}

/** The fields of an object, side by side where there is room. */
export function Fields({ fields, path, value, onChange }: FieldsProps) {
  return (
    <div className={classes.fields}>
      {fields.map((field) => (
        <FieldView
          key={field.key}
          field={field}
          path={`${path}.${field.key}`}
          value={value[field.key]}
          onChange={(next) => onChange(withValue(value, [field.key], next))}
        />
      ))}
    </div>
  );
}

function Errors({ messages }: { messages: readonly string[] }) {
  return messages.length === 0 ? null : <Input.Error>{messages.join(" ")}</Input.Error>;
}

/** A section; with a switch where the plan may leave it out. */
function GroupFields({ field, path, value, onChange }: FieldProps<GroupField>) {
  const { errors, isChanged } = useFormAids();
  const isOn = !field.isNullable || isObject(value);
  const title = titleOf(path, field);
  const inner = isObject(value) ? value : isObject(field.fallback) ? field.fallback : {};
  return (
    <fieldset className={`${classes.group} ${classes.wide}`}>
      {field.isNullable ? (
        <Switch
          id={fieldId(path)}
          label={<FieldLabel title={title} isChanged={isChanged(path)} />}
          description={field.about || field.help}
          checked={isOn}
          onChange={(event) => onChange(event.currentTarget.checked ? {} : undefined)}
        />
      ) : (
        <legend id={fieldId(path)} tabIndex={-1} className={classes.legend}>
          <FieldLabel title={title} isChanged={isChanged(path)} />
          <Text size="xs" c="dimmed">
            {field.help}
          </Text>
        </legend>
      )}
      <Errors messages={errorsAt(errors, path)} />
      {isOn && <Fields fields={field.fields} path={path} value={inner} onChange={onChange} />}
    </fieldset>
  );
}

/** One of several kinds of a section, told apart by its name. */
function VariantFields({ field, path, value, onChange }: FieldProps<VariantsField>) {
  const { errors, isChanged } = useFormAids();
  const shown = isObject(value) ? value : isObject(field.fallback) ? field.fallback : {};
  const name = shown[field.tag];
  const chosen = field.variants.find((variant) => variant.name === name);
  const tagPath = `${path}.${field.tag}`;
  const wrong = [...errorsAt(errors, path), ...errorsAt(errors, tagPath)];
  return (
    <Stack gap="sm" className={classes.wide}>
      <Select
        id={fieldId(path)}
        label={<FieldLabel title={field.title} isChanged={isChanged(tagPath)} />}
        data={field.variants.map((variant) => variant.name)}
        value={typeof name === "string" ? name : null}
        searchable={field.variants.length > 8}
        allowDeselect={false}
        maw={420}
        maxDropdownHeight={420}
        error={wrong.length === 0 ? null : wrong.join(" ")}
        renderOption={({ option }) => (
          <div>
            <Text size="sm" fw={560}>
              {option.value}
            </Text>
            <Text size="xs" c="dimmed" lineClamp={2}>
              {field.variants.find((variant) => variant.name === option.value)?.about}
            </Text>
          </div>
        )}
        onChange={(next) => next !== null && next !== name && onChange({ [field.tag]: next })}
      />
      {chosen !== undefined && (
        <Text size="sm" c="dimmed" maw="75ch">
          {chosen.about}
        </Text>
      )}
      {chosen !== undefined && chosen.fields.length > 0 && (
        <Fields fields={chosen.fields} path={path} value={shown} onChange={onChange} />
      )}
    </Stack>
  );
}

/** A list of sections, one below the other. */
function RowFields({ field, path, value, onChange }: FieldProps<RowsField>) {
  const { errors, isChanged } = useFormAids();
  const shown = value ?? field.fallback;
  const rows = Array.isArray(shown) ? shown.map((row) => (isObject(row) ? row : {})) : [];
  const title = titleOf(path, field);
  return (
    <fieldset className={`${classes.group} ${classes.wide}`}>
      <legend id={fieldId(path)} tabIndex={-1} className={classes.legend}>
        <FieldLabel title={title} isChanged={isChanged(path)} />
        <Text size="xs" c="dimmed">
          {field.help}
        </Text>
      </legend>
      <Errors messages={errorsAt(errors, path)} />
      {rows.map((row, index) => (
        <Group key={index} align="flex-start" wrap="nowrap" gap="xs" className={classes.nested}>
          <div style={{ flex: 1, minWidth: 0 }}>
            <Fields
              fields={field.row.fields}
              path={`${path}.${index}`}
              value={row}
              onChange={(next) => onChange(rows.map((old, at) => (at === index ? next : old)))}
            />
          </div>
          <ActionIcon
            variant="subtle"
            color="gray"
            aria-label={`Remove ${index + 1} of ${title}`}
            onClick={() => onChange(rows.filter((_, at) => at !== index))}
          >
            <IconTrash size={16} aria-hidden />
          </ActionIcon>
        </Group>
      ))}
      <Button
        variant="default"
        size="xs"
        leftSection={<IconPlus size={14} aria-hidden />}
        onClick={() => onChange([...rows, {}])}
      >
        Add {rows.length === 0 ? "one" : "another"}
      </Button>
    </fieldset>
  );
}

/** Whatever the form has no better field for. */
function JsonField({ field, path, value, onChange }: FieldProps<OtherField>) {
  const { errors, isChanged } = useFormAids();
  const shown = value ?? field.fallback ?? null;
  const [typed, setTyped] = useState(() => jsonText(shown));
  const parsed = parse(typed);
  if (parsed !== undefined && !same(parsed, shown)) setTyped(jsonText(shown));
  const wrong = errorsWithin(errors, path);
  return (
    <JsonInput
      id={fieldId(path)}
      className={classes.wide ?? ""}
      label={<FieldLabel title={titleOf(path, field)} isChanged={isChanged(path)} />}
      description={`${field.help} As JSON.`.trim()}
      inputWrapperOrder={["label", "input", "error", "description"]}
      error={parsed === undefined ? "This is no JSON." : wrong.length === 0 ? null : wrong.join(" ")}
      autosize
      value={typed}
      onChange={(text) => {
        setTyped(text);
        const next = parse(text);
        if (next !== undefined) onChange(next);
      }}
    />
  );
}

function jsonText(value: Json): string {
  return value === null ? "" : JSON.stringify(value, null, 2);
}

/** Returns undefined for what is no JSON, null for nothing. */
function parse(text: string): Json | undefined {
  if (text.trim() === "") return null;
  try {
    return JSON.parse(text) as Json;
  } catch {
    return undefined;
  }
}
