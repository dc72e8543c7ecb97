/** A map as rows of a key and a value: labels of text, or free values that are typed as they look. */
import { ActionIcon, Autocomplete, Button, Group, Input, Text, TextInput, UnstyledButton } from "@mantine/core";
import { IconPlus, IconX } from "@tabler/icons-react";
import { useState } from "react";

import type { FieldProps } from "@/features/plans/formAids";
import { fieldId, useFormAids } from "@/features/plans/formAids";
import type { Json, JsonObject } from "@/features/plans/json";
import { same } from "@/features/plans/json";
import { titleOf } from "@/features/plans/layout";
import { FieldLabel } from "@/features/plans/SimpleFields";
import { errorsAt } from "@/features/plans/planErrors";
import type { FreeField, MapField } from "@/features/plans/planSchema";
import classes from "@/features/plans/plans.module.css";
import type { KeyedText } from "@/features/plans/trainingValues";
import { mapOf, parseTyped, rowsOf, typedText } from "@/features/plans/trainingValues";

interface Props extends FieldProps<MapField | FreeField> {
  hint?: { label: string; values: JsonObject }; // values that were used before
}

const asText = (text: string): Json => text;
const asTyped = (text: string): Json => parseTyped(text).value;

export function KeyValueField({ field, path, value, onChange, hint }: Props) {
  const { errors, isChanged, suggestions } = useFormAids();
  const isFree = field.kind === "free";
  const valueOf = isFree ? asTyped : asText;
  const textOf = isFree ? typedText : plainText;
  const shown = value ?? field.fallback ?? {};
  const [rows, setRows] = useState(() => rowsOf(shown, textOf));
  // Another plan was put in: what is typed here means something else than what is there.
  if (!same(mapOf(rows, valueOf), shown)) setRows(rowsOf(shown, textOf));

  function change(next: KeyedText[]): void {
    setRows(next);
    onChange(mapOf(next, valueOf));
  }

  const general = errorsAt(errors, path);
  const left = Object.entries(hint?.values ?? {}).filter(([key]) => !rows.some((row) => row.key === key));
  return (
    <div className={classes.wide} role="group" aria-label={titleOf(path, field)} id={fieldId(path)} tabIndex={-1}>
      {path.includes(".") && (
        <Input.Label component="div">
          <FieldLabel title={titleOf(path, field)} isChanged={isChanged(path)} />
        </Input.Label>
      )}
      {rows.map((row, index) => {
        const wrong = [...errors].filter(([at]) => row.key !== "" && (at === `${path}.${row.key}` || at.startsWith(`${path}.${row.key}.`)));
        const set = (part: Partial<KeyedText>) => change(rows.map((old, at) => (at === index ? { ...old, ...part } : old)));
        const as = isFree ? parseTyped(row.text).as : undefined;
        return (
          <div key={index} className={classes.row}>
            <Autocomplete
              aria-label={`Key ${index + 1}`}
              placeholder="key"
              className="mono"
              value={row.key}
              data={[...suggestions(path)]}
              onChange={(key) => set({ key })}
            />
            <TextInput
              aria-label={row.key === "" ? `Value ${index + 1}` : `Value of ${row.key}`}
              placeholder="value"
              value={row.text}
              autoComplete="off"
              spellCheck={false}
              onChange={(event) => set({ text: event.currentTarget.value })}
              error={wrong.flatMap(([, messages]) => messages).join(" ") || (as === "broken JSON" ? "This is sent as text: as JSON it does not parse" : null)}
              rightSection={as === undefined || row.text === "" ? null : <span className={classes.typed}>{as}</span>}
              rightSectionWidth={as === "true or false" || as === "broken JSON" ? 98 : 66}
            />
            <ActionIcon
              variant="subtle"
              color="gray"
              size={36}
              aria-label={`Remove ${row.key || `row ${index + 1}`}`}
              onClick={() => change(rows.filter((_, at) => at !== index))}
            >
              <IconX size={16} aria-hidden />
            </ActionIcon>
          </div>
        );
      })}
      {general.length > 0 && <Input.Error mb={6}>{general.join(" ")}</Input.Error>}
      <Group gap="xs">
        <Button
          variant="default"
          size="xs"
          leftSection={<IconPlus size={14} aria-hidden />}
          onClick={() => setRows([...rows, { key: "", text: "" }])}
        >
          {rows.length === 0 ? "Add a value" : "Add another"}
        </Button>
        {hint !== undefined && left.length > 0 && (
          <>
            <Text size="xs" c="dimmed">
              {hint.label}
            </Text>
            {left.slice(0, MOST_HINTS).map(([key, used]) => (
              <UnstyledButton
                key={key}
                className={classes.chip}
                onClick={() => change([...rows.filter((row) => row.key !== ""), { key, text: textOf(used) }])}
              >
                {key} = {typedText(used)}
              </UnstyledButton>
            ))}
            {left.length > 1 && (
              <UnstyledButton
                className={classes.chip}
                onClick={() => change([...rows.filter((row) => row.key !== ""), ...left.map(([key, used]) => ({ key, text: textOf(used) }))])}
              >
                all {left.length}
              </UnstyledButton>
            )}
          </>
        )}
      </Group>
      {path.includes(".") && <Input.Description mt={5}>{field.help}</Input.Description>}
    </div>
  );
}

const MOST_HINTS = 6;

function plainText(value: Json): string {
  return typeof value === "string" ? value : JSON.stringify(value);
}
