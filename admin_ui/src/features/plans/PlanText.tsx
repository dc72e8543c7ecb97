/** The plan as text: to copy as TOML, or to copy and paste as JSON. Defaults are left out. */
import { Alert, Button, Group, Stack, Text, Textarea } from "@mantine/core";
import { useState } from "react";

import { Command, Copy } from "@/components/Command";
import { Panel } from "@/components/Panel";
import type { JsonObject } from "@/features/plans/json";
import { isObject } from "@/features/plans/json";
import classes from "@/features/plans/plans.module.css";
import { writeToml } from "@/features/plans/toml";

export function PlanToml({ plan }: { plan: JsonObject }) {
  const toml = asToml(plan);
  return (
    <Panel title="The plan as TOML">
      <Stack gap="sm">
        <Text size="sm" c="dimmed">
          What is as by default is left out. Keep it beside your code; the same run from a terminal:
        </Text>
        <Command text="hansa run create plan.toml" />
        {toml === null ? (
          <Alert color="yellow">A value in training is null, for which TOML has no word. Use the JSON.</Alert>
        ) : (
          <Command text={toml} label="Copy the plan" />
        )}
      </Stack>
    </Panel>
  );
}

function asToml(plan: JsonObject): string | null {
  try {
    return writeToml(plan).trimEnd();
  } catch {
    return null;
  }
}

/** Edited as text; what is wrong in it the preview says. */
export function PlanJson({ plan, use }: { plan: JsonObject; use: (plan: JsonObject) => void }) {
  const written = JSON.stringify(plan, null, 2);
  const [typed, setTyped] = useState<string | null>(null); // null: nothing was changed
  const text = typed ?? written;
  const parsed = parse(text);
  return (
    <Panel title="The plan as JSON" aside={<Copy text={text} label="Copy the plan" />}>
      <Stack gap="sm">
        <Textarea
          aria-label="Plan as JSON"
          description="What is as by default is left out. Paste another plan here to use it."
          className={classes.text ?? ""}
          value={text}
          autosize
          minRows={14}
          maxRows={40}
          spellCheck={false}
          error={parsed instanceof Error ? parsed.message : null}
          onChange={(event) => setTyped(event.currentTarget.value)}
        />
        <Group gap="xs">
          <Button
            size="sm"
            disabled={typed === null || parsed instanceof Error}
            onClick={() => {
              if (parsed instanceof Error) return;
              use(parsed);
              setTyped(null);
            }}
          >
            Use this plan
          </Button>
          {typed !== null && (
            <Button size="sm" variant="default" onClick={() => setTyped(null)}>
              Take it back
            </Button>
          )}
          {typed === null && (
            <Text size="sm" c="dimmed">
              This is the plan of the form.
            </Text>
          )}
        </Group>
      </Stack>
    </Panel>
  );
}

/** Returns the plan, or an error that says where the text is no JSON. */
function parse(text: string): JsonObject | Error {
  try {
    const value: unknown = JSON.parse(text);
    return isObject(value) ? value : new Error("A plan is a JSON object: { … }.");
  } catch (error) {
    return new Error(`This is no JSON: ${error instanceof Error ? error.message : String(error)}`);
  }
}
