import { Button, Group, Stack, Switch, Text, TextInput, Textarea } from "@mantine/core";
import { useQuery, useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import type { Federation, Schema } from "@/api/types";
import { Facts } from "@/components/Facts";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { Problem } from "@/components/Problem";
import { QueryView } from "@/components/QueryView";
import { useAction } from "@/components/actions";
import { Ago, Digest } from "@/components/values";
import { RetentionPanel } from "@/features/federations/RetentionPanel";
import { overviewQuery, useMay, useSlug } from "@/features/federations/federations";
import { HubKey } from "@/features/federations/HubKey";

export function SettingsPage() {
  const slug = useSlug();
  const overview = useQuery(overviewQuery(slug));
  const may = useMay("govern");
  return (
    <>
      <PageHeader title="Settings" text={may ? undefined : "Only an owner may change them."} />
      <QueryView query={overview}>
        {({ federation }) => (
          <Stack gap="lg">
            {may ? (
              <Basics key={JSON.stringify(federation)} federation={federation} />
            ) : (
              <Panel title="Federation">
                <Facts
                  facts={[
                    ["Name", federation.name],
                    ["Description", federation.description || "–"],
                    ["New sites", federation.requires_approval ? "need approval" : "join at once"],
                  ]}
                />
              </Panel>
            )}
            <RetentionPanel key={JSON.stringify(federation.retention)} federation={federation} may={may} />
            <Panel title="For commands and programs">
              <Facts
                facts={[
                  ["Slug", <Digest key="slug" value={federation.slug} name="slug" characters={64} />],
                  ["Id", <Digest key="id" value={federation.id} name="id" characters={36} />],
                  ["Founded", <Ago key="at" at={federation.created_at} />],
                ]}
              />
            </Panel>
            <HubKey />
          </Stack>
        )}
      </QueryView>
    </>
  );
}

function Basics({ federation }: { federation: Federation }) {
  const slug = useSlug();
  const queryClient = useQueryClient();
  const [name, setName] = useState(federation.name);
  const [description, setDescription] = useState(federation.description);
  const [approval, setApproval] = useState(federation.requires_approval);
  const changed: Schema<"FederationChange"> = {
    ...(name === federation.name ? {} : { name }),
    ...(description === federation.description ? {} : { description }),
    ...(approval === federation.requires_approval ? {} : { requires_approval: approval }),
  };
  const action = useAction({
    run: () =>
      unwrap(
        api.PATCH("/v1/federations/{federation}", { params: { path: { federation: slug } }, body: changed }),
      ),
    done: "The settings are saved",
    quiet: true,
    after: () => queryClient.invalidateQueries({ queryKey: keys.federation(slug) }),
  });
  return (
    <Panel title="Federation">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          action.mutate();
        }}
      >
        <Stack maw={640}>
          <TextInput
            label="Name"
            required
            maxLength={200}
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
          />
          <Textarea
            label="Description"
            autosize
            minRows={2}
            maxLength={5000}
            value={description}
            onChange={(event) => setDescription(event.currentTarget.value)}
          />
          <Switch
            label="New sites need approval"
            description="Somebody compares the fingerprint of each site's key before it gets work."
            checked={approval}
            onChange={(event) => setApproval(event.currentTarget.checked)}
          />
          {!approval && federation.requires_approval && (
            <Text size="sm" c="dimmed">
              Sites that wait now still wait; only later ones join at once.
            </Text>
          )}
          {action.isError && <Problem error={action.error} />}
          <Group>
            <Button type="submit" loading={action.isPending} disabled={Object.keys(changed).length === 0}>
              Save
            </Button>
          </Group>
        </Stack>
      </form>
    </Panel>
  );
}
