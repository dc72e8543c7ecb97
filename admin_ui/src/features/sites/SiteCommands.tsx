import { Group, Stack, Text, TextInput } from "@mantine/core";
import { useState } from "react";

import { Command } from "@/components/Command";
import { INSTALL, TRAINER, enrolCommand, problemOfName, startCommand } from "@/features/sites/invitations";
import type { NewInvitation } from "@/features/sites/sites";

/** The commands that a site's operator pastes, in their order. The secret in them is shown this once. */
export function SiteCommands({ invitation }: { invitation: NewInvitation }) {
  const [name, setName] = useState("");
  const [trainer, setTrainer] = useState("");
  const problem = problemOfName(name);
  return (
    <Stack gap="md">
      <Group gap="md" align="flex-start" grow preventGrowOverflow={false} wrap="wrap">
        {invitation.max_uses === 1 && (
          <TextInput
            label="The site's name"
            description="Put into the command, or left to the operator."
            placeholder="NAME"
            value={name}
            onChange={(event) => setName(event.currentTarget.value)}
            error={problem}
            maw={330}
          />
        )}
        <TextInput
          label="Its trainer"
          description="The site's own code that trains on its data."
          placeholder={TRAINER}
          value={trainer}
          onChange={(event) => setTrainer(event.currentTarget.value)}
          maw={330}
        />
      </Group>
      <Numbered text="Install the SDK: Python 3.11 or newer, in a copy of Hansa's repository.">
        <Command text={INSTALL} label="Copy the command that installs" />
      </Numbered>
      <Numbered text="Enrol. A key is made that never leaves the machine, and its fingerprint is shown.">
        <Command
          text={enrolCommand(invitation.command, problem === null ? name : "")}
          label="Copy the command that enrols"
        />
      </Numbered>
      <Numbered text="Start it. It waits until it is approved, and from then on for work.">
        <Command text={startCommand(trainer)} label="Copy the command that starts the site" />
      </Numbered>
      <Text size="xs" c="dimmed">
        The invitation in the second command is a secret and is shown this once: whoever has it can ask to join. Send
        it by a channel that you trust.
      </Text>
    </Stack>
  );
}

function Numbered({ text, children }: { text: string; children: React.ReactNode }) {
  return (
    <div>
      <Text size="sm" mb={5}>
        {text}
      </Text>
      {children}
    </div>
  );
}
