import { Badge, Button, Group, Modal, SimpleGrid, Stack, Switch, Text, TextInput, Textarea, Title } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconBuildingCommunity, IconPlus } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useNavigate } from "react-router";

import { api, unwrap } from "@/api/client";
import { keys } from "@/api/keys";
import { useListing } from "@/api/paging";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { useAction } from "@/components/actions";
import { Ago } from "@/components/values";
import classes from "@/features/federations/FederationsPage.module.css";
import type { Overview } from "@/features/federations/federations";
import { overviews } from "@/features/federations/federations";
import { slugOf } from "@/features/federations/slugs";
import { formatCount } from "@/format/sizes";
import { plural } from "@/format/words";

export function FederationsPage() {
  const listed = useListing(overviews);
  const create = <NewFederation />;
  return (
    <>
      <PageHeader
        title="Federations"
        text="Each is a group of sites that train models together."
        actions={create}
      />
      {listed.error !== null && listed.items.length === 0 ? (
        <Problem error={listed.error} retry={listed.refetch} />
      ) : listed.isPending ? (
        <Loading rows={6} />
      ) : listed.items.length === 0 ? (
        <EmptyState
          icon={IconBuildingCommunity}
          title="No federation yet"
          command={'hansa federation create heart --name "Heart disease"'}
          action={create}
        >
          A federation holds sites, models and runs. Make one here or on the command line, then invite its sites.
        </EmptyState>
      ) : (
        <SimpleGrid cols={{ base: 1, md: 2, xl: 3 }} spacing="md">
          {listed.items.map((overview) => (
            <Card key={overview.federation.id} overview={overview} />
          ))}
        </SimpleGrid>
      )}
    </>
  );
}

function Card({ overview }: { overview: Overview }) {
  const { federation, sites, runs } = overview;
  return (
    <Link to={`/f/${federation.slug}`} className={`panel ${classes.card}`}>
      <Group justify="space-between" align="flex-start" wrap="nowrap">
        <div className={classes.names}>
          <Title order={2} className={classes.name}>
            {federation.name}
          </Title>
          <Text size="xs" c="dimmed" className="mono">
            {federation.slug}
          </Text>
        </div>
        <Badge variant="light" color="gray" tt="none" fw={560} flex="none">
          {federation.my_role ?? "administrator"}
        </Badge>
      </Group>
      {federation.description && (
        <Text size="sm" c="dimmed" lineClamp={2}>
          {federation.description}
        </Text>
      )}
      <dl className={classes.counts}>
        <Count name="Sites online" value={`${formatCount(sites.online)} of ${formatCount(sites.active)}`} />
        <Count name="Runs now" value={String(runs.running)} note={waiting(runs.queued + runs.paused)} />
        <Count name="Rounds done" value={formatCount(overview.rounds_completed)} />
      </dl>
      <Group justify="space-between" gap="xs">
        <Group gap={6}>
          {overview.open_alerts > 0 && (
            <Badge variant="light" color={overview.worst_alert === "critical" ? "red" : "orange"} tt="none">
              {plural(overview.open_alerts, "open alert")}
            </Badge>
          )}
          {sites.pending > 0 && (
            <Badge variant="light" color="yellow" tt="none">
              {plural(sites.pending, "site awaits approval", "sites await approval")}
            </Badge>
          )}
        </Group>
        <Text size="xs" c="dimmed" ms="auto">
          last event <Ago at={overview.last_event_at} />
        </Text>
      </Group>
    </Link>
  );
}

function waiting(count: number): string {
  return count === 0 ? "" : `${count} waiting`;
}

function Count({ name, value, note }: { name: string; value: string; note?: string }) {
  return (
    <div>
      <dt>{name}</dt>
      <dd className="numbers">
        {value} {note && <span className={classes.note}>{note}</span>}
      </dd>
    </div>
  );
}

function NewFederation() {
  const [opened, { open, close }] = useDisclosure(false);
  return (
    <>
      <Button leftSection={<IconPlus size={16} aria-hidden />} onClick={open}>
        New federation
      </Button>
      <Modal opened={opened} onClose={close} title={<Text fw={640}>New federation</Text>}>
        <NewFederationForm />
      </Modal>
    </>
  );
}

function NewFederationForm() {
  const navigate = useNavigate();
  const queryClient = useQueryClient();
  const [name, setName] = useState("");
  const [typedSlug, setTypedSlug] = useState<string | null>(null); // null: follows the name
  const [description, setDescription] = useState("");
  const [approval, setApproval] = useState(true);
  const slug = typedSlug ?? slugOf(name);
  const action = useAction({
    run: () =>
      unwrap(
        api.POST("/v1/federations", {
          body: { name, slug, description, requires_approval: approval },
        }),
      ),
    quiet: true,
    after: async (federation) => {
      await queryClient.invalidateQueries({ queryKey: keys.overviews });
      await navigate(`/f/${federation.slug}`);
    },
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        action.mutate();
      }}
    >
      <Stack>
        <TextInput
          label="Name"
          required
          maxLength={200}
          data-autofocus
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <TextInput
          label="Slug"
          description="Names it in addresses and commands, and stays: lower case, digits and . _ -"
          required
          maxLength={64}
          value={slug}
          onChange={(event) => setTypedSlug(event.currentTarget.value)}
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
        {action.isError && <Problem error={action.error} />}
        <Button type="submit" loading={action.isPending}>
          Create federation
        </Button>
      </Stack>
    </form>
  );
}
