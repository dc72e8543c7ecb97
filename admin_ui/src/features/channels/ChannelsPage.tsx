import { Alert, Badge, Button, Group, Modal, Stack, Switch, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { notifications } from "@mantine/notifications";
import { IconKey, IconMail, IconPlus, IconWebhook } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { keys } from "@/api/keys";
import { useListing } from "@/api/paging";
import { Command } from "@/components/Command";
import { EmptyState } from "@/components/EmptyState";
import { Facts } from "@/components/Facts";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { ConfirmButton, useAction } from "@/components/actions";
import { Ago } from "@/components/values";
import { NewChannelForm } from "@/features/channels/NewChannelForm";
import type { Channel } from "@/features/channels/channels";
import { changeChannel, channels, removeChannel, tryChannel } from "@/features/channels/channels";
import { useMay, useSlug } from "@/features/federations/federations";
import { plural } from "@/format/words";

export function ChannelsPage() {
  const slug = useSlug();
  const may = useMay("govern");
  const queryClient = useQueryClient();
  const listed = useListing(channels(slug));
  const [opened, { open, close }] = useDisclosure(false);
  const [secret, setSecret] = useState<string | null>(null); // shown once
  const changed = () => queryClient.invalidateQueries({ queryKey: keys.domain(slug, "channels") });
  const add = may && (
    <Button leftSection={<IconPlus size={16} aria-hidden />} onClick={open}>
      New channel
    </Button>
  );
  return (
    <>
      <PageHeader
        title="Channels"
        text="Webhooks and e-mail that hear of this federation's events. Messages come at least once, in order, signed."
        actions={add}
      />
      <Modal opened={opened} onClose={close} title={<Text fw={640}>New channel</Text>}>
        <NewChannelForm
          slug={slug}
          done={(channel) => {
            setSecret(channel.secret);
            close();
            void changed();
          }}
        />
      </Modal>
      <Stack gap="md">
        {secret !== null && (
          <Alert
            color="yellow"
            icon={<IconKey size={18} />}
            title="The webhook's secret, shown this once"
            withCloseButton
            closeButtonLabel="It is stored"
            onClose={() => setSecret(null)}
          >
            <Stack gap="xs">
              <Text size="sm">Whoever receives the webhooks checks their signatures with it.</Text>
              <Command text={secret} label="Copy the secret" />
            </Stack>
          </Alert>
        )}
        {listed.error !== null && listed.items.length === 0 ? (
          <Problem error={listed.error} retry={listed.refetch} />
        ) : listed.isPending ? (
          <Loading />
        ) : listed.items.length === 0 ? (
          <EmptyState
            icon={IconWebhook}
            title="No channel yet"
            command={'hansa channel add-webhook https://ops.example.org/hansa --event "alert.*" --event run.failed'}
            action={add}
          >
            A channel tells a chat, a pager or a program what happens here, without anybody watching.
          </EmptyState>
        ) : (
          listed.items.map((channel) => (
            <ChannelPanel key={channel.id} slug={slug} channel={channel} may={may} changed={changed} />
          ))
        )}
      </Stack>
    </>
  );
}

interface ChannelProps {
  slug: string;
  channel: Channel;
  may: boolean;
  changed: () => Promise<unknown>;
}

function ChannelPanel({ slug, channel, may, changed }: ChannelProps) {
  const Icon = channel.kind === "email" ? IconMail : IconWebhook;
  const toggle = useAction<boolean>({
    run: (enabled) => changeChannel(slug, channel.id, { enabled }),
    after: changed,
  });
  const test = useAction({
    run: () => tryChannel(slug, channel.id),
    after: ({ delivered, error }) =>
      notifications.show(
        delivered
          ? { message: "The test message was delivered", color: "green" }
          : { title: "The test message was not delivered", message: error ?? "", color: "red", autoClose: false },
      ),
  });
  return (
    <Panel>
      <Group justify="space-between" align="flex-start" mb="sm">
        <Group gap="sm" wrap="nowrap" flex="1 1 300px" miw={0}>
          <Icon size={20} stroke={1.7} aria-label={channel.kind} />
          <Text fw={560} className="mono" style={{ overflowWrap: "anywhere" }}>
            {channel.target}
          </Text>
          <Health channel={channel} />
        </Group>
        {may && (
          <Group gap="xs">
            <Switch
              label="enabled"
              checked={channel.enabled}
              disabled={toggle.isPending}
              onChange={(event) => toggle.mutate(event.currentTarget.checked)}
            />
            <Button size="xs" variant="default" loading={test.isPending} onClick={() => test.mutate()}>
              Send a test
            </Button>
            <ConfirmButton
              label="Remove"
              size="xs"
              variant="subtle"
              colour="red"
              title="Remove this channel?"
              run={() => removeChannel(slug, channel.id)}
              after={changed}
            >
              {channel.target} hears nothing any more. What was not delivered yet is dropped.
            </ConfirmButton>
          </Group>
        )}
      </Group>
      <Facts
        facts={[
          [
            "Events",
            <Group key="events" gap={6}>
              {channel.events.map((pattern) => (
                <Badge key={pattern} variant="light" color="gray" tt="none" className="mono" fw={500}>
                  {pattern}
                </Badge>
              ))}
            </Group>,
          ],
          ["Last delivered", <Ago key="last" at={channel.last_success_at} />],
          ...(channel.failing_since === null
            ? []
            : ([
                [
                  "Failing",
                  <span key="failing">
                    {plural(channel.failures, "time")}, first <Ago at={channel.failing_since} />
                    {channel.next_at !== null && channel.enabled && (
                      <>
                        , again <Ago at={channel.next_at} />
                      </>
                    )}
                    : {channel.last_error}
                  </span>,
                ],
              ] as const)),
        ]}
      />
    </Panel>
  );
}

function Health({ channel }: { channel: Channel }) {
  const [word, colour] = !channel.enabled
    ? ["disabled", "gray"]
    : channel.failing_since === null
      ? ["works", "green"]
      : ["failing", "red"];
  return (
    <Badge variant="light" color={colour} radius="sm" tt="none" fw={560} flex="none">
      {word}
    </Badge>
  );
}
