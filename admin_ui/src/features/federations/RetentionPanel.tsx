import { Alert, Button, Group, NumberInput, SimpleGrid, Stack, Text } from "@mantine/core";
import { IconTrash } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import type { Federation, Schema } from "@/api/types";
import { Panel } from "@/components/Panel";
import { Problem } from "@/components/Problem";
import { useAction } from "@/components/actions";
import { formatBytes } from "@/format/sizes";
import { plural } from "@/format/words";

type Retention = Schema<"Retention">;

interface Field {
  name: keyof Retention;
  label: string;
  description: string;
  min: number;
  suffix: string;
}

const FIELDS: Field[] = [
  {
    name: "updates_rounds",
    label: "Updates: newest rounds",
    description: "Keep the updates of each run's newest rounds.",
    min: 0,
    suffix: " rounds",
  },
  {
    name: "updates_days",
    label: "Updates: days",
    description: "Keep updates so long after their round closed.",
    min: 0,
    suffix: " days",
  },
  {
    name: "checkpoints_every",
    label: "Checkpoints: each n-th",
    description: "Keep each n-th of a run's, the last, and those runs start from.",
    min: 1,
    suffix: "",
  },
  { name: "events_days", label: "Events: days", description: "Keep the events of ended runs so long.", min: 1, suffix: " days" },
];

/** What is deleted when; shown before it is decided. */
export function RetentionPanel({ federation, may }: { federation: Federation; may: boolean }) {
  const slug = federation.slug;
  const queryClient = useQueryClient();
  const [policy, setPolicy] = useState<Retention>(federation.retention);
  const preview = useAction({
    run: () =>
      unwrap(
        api.POST("/v1/federations/{federation}/retention/preview", {
          params: { path: { federation: slug } },
          body: policy,
        }),
      ),
    quiet: true,
  });
  const save = useAction({
    run: () =>
      unwrap(
        api.PATCH("/v1/federations/{federation}", {
          params: { path: { federation: slug } },
          body: { retention: policy },
        }),
      ),
    done: "The retention policy is saved",
    quiet: true,
    after: () => queryClient.invalidateQueries({ queryKey: keys.federation(slug) }),
  });
  const isChanged = FIELDS.some(({ name }) => (policy[name] ?? null) !== (federation.retention[name] ?? null));
  const told = preview.data;
  return (
    <Panel title="Retention">
      <Stack>
        <Text size="sm" c="dimmed">
          What grows without end is deleted by this policy; an empty field keeps everything. Receipts and the audit log
          always stay, and what a held receipt needs.
        </Text>
        <SimpleGrid cols={{ base: 1, sm: 2, xl: 4 }}>
          {FIELDS.map((field) => (
            <NumberInput
              key={field.name}
              label={field.label}
              description={field.description}
              inputWrapperOrder={["label", "input", "description", "error"]}
              placeholder="keep all"
              min={field.min}
              suffix={field.suffix}
              readOnly={!may}
              value={policy[field.name] ?? ""}
              onChange={(value) => {
                preview.reset();
                setPolicy({ ...policy, [field.name]: typeof value === "number" ? value : null });
              }}
            />
          ))}
        </SimpleGrid>
        {told && (
          <Alert icon={<IconTrash size={18} />} color="orange" title="Saved now, the next sweep would delete">
            {plural(told.updates, "update")} ({formatBytes(told.updates_bytes)}),{" "}
            {plural(told.checkpoints, "checkpoint")} ({formatBytes(told.checkpoints_bytes)}) and{" "}
            {plural(told.events, "event")}.
          </Alert>
        )}
        {preview.isError && <Problem error={preview.error} />}
        {save.isError && <Problem error={save.error} />}
        {may && (
          <Group>
            <Button variant="default" loading={preview.isPending} onClick={() => preview.mutate()}>
              Show what it deletes
            </Button>
            <Button loading={save.isPending} disabled={!isChanged} onClick={() => save.mutate()}>
              Save
            </Button>
          </Group>
        )}
      </Stack>
    </Panel>
  );
}
