import { Button, SegmentedControl, Stack, TagsInput, TextInput } from "@mantine/core";
import { useState } from "react";

import type { Schema } from "@/api/types";
import { Problem } from "@/components/Problem";
import { useAction } from "@/components/actions";
import { SUGGESTED_EVENTS, createChannel } from "@/features/channels/channels";

interface Props {
  slug: string;
  done: (channel: Schema<"NewChannel">) => void;
}

export function NewChannelForm({ slug, done }: Props) {
  const [kind, setKind] = useState<Schema<"ChannelKind">>("webhook");
  const [target, setTarget] = useState("");
  const [events, setEvents] = useState<string[]>(["alert.*", "run.completed", "run.failed"]);
  const isWebhook = kind === "webhook";
  const action = useAction({
    run: () => createChannel(slug, { kind, target: target.trim(), events: events.length === 0 ? null : events }),
    quiet: true,
    after: done,
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        action.mutate();
      }}
    >
      <Stack>
        <SegmentedControl
          aria-label="Kind"
          value={kind}
          onChange={(value) => setKind(value === "email" ? "email" : "webhook")}
          data={[
            { label: "Webhook", value: "webhook" },
            { label: "E-mail", value: "email" },
          ]}
        />
        <TextInput
          label={isWebhook ? "URL" : "Address"}
          description={
            isWebhook
              ? "HTTPS at a public address. It gets a signed POST for each event."
              : "The hub needs a mail server for this (HANSA_SMTP_URL)."
          }
          placeholder={isWebhook ? "https://ops.example.org/hansa" : "ops@example.org"}
          type={isWebhook ? "url" : "email"}
          required
          data-autofocus
          value={target}
          onChange={(event) => setTarget(event.currentTarget.value)}
        />
        <TagsInput
          label="Events"
          description={'Kinds, or a prefix ending in ".*". Empty: what the hub thinks fit for the kind of channel.'}
          data={SUGGESTED_EVENTS}
          value={events}
          onChange={setEvents}
        />
        {action.isError && <Problem error={action.error} />}
        <Button type="submit" loading={action.isPending}>
          Create channel
        </Button>
      </Stack>
    </form>
  );
}
