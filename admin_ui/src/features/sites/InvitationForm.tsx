import { Button, Group, NumberInput, SegmentedControl, Stack, Text } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { useId, useState } from "react";

import { keys } from "@/api/keys";
import { Problem } from "@/components/Problem";
import { useAction } from "@/components/actions";
import { LabelsInput } from "@/features/sites/LabelsInput";
import { readLabels } from "@/features/sites/labels";
import type { InvitationCreate, NewInvitation } from "@/features/sites/sites";
import { invite } from "@/features/sites/sites";

const MOST_USES = 10_000;
const LIFETIMES = [
  { value: "1", label: "1 hour" },
  { value: "24", label: "1 day" },
  { value: "72", label: "3 days" },
  { value: "336", label: "2 weeks" },
];

interface Props {
  slug: string;
  made: (invitation: NewInvitation) => unknown;
}

/** What an invitation allows: how many sites, for how long, with which labels. */
export function InvitationForm({ slug, made }: Props) {
  const queryClient = useQueryClient();
  const lifetimeId = useId();
  const [uses, setUses] = useState<string | number>(1);
  const [hours, setHours] = useState("72");
  const [written, setWritten] = useState<string[]>([]);
  const { labels, wrong } = readLabels(written);
  const action = useAction<InvitationCreate, NewInvitation>({
    run: (body) => invite(slug, body),
    quiet: true,
    after: (invitation) => {
      made(invitation);
      return queryClient.invalidateQueries({ queryKey: keys.domain(slug, "invitations") });
    },
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (wrong === null) action.mutate({ max_uses: Number(uses), expires_hours: Number(hours), labels });
      }}
    >
      <Stack gap="md" maw={560}>
        <NumberInput
          label="Sites"
          description="How many sites may come with it."
          value={uses}
          onChange={setUses}
          min={1}
          max={MOST_USES}
          allowDecimal={false}
          required
          withAsterisk={false}
          maw={240}
        />
        <div>
          <Text size="sm" fw={500} mb={4} id={lifetimeId}>
            Good for
          </Text>
          <SegmentedControl data={LIFETIMES} value={hours} onChange={setHours} aria-labelledby={lifetimeId} />
        </div>
        <LabelsInput
          label="Labels"
          description="Put on every site that comes with it; runs choose their sites by labels. Each as key=value, then Enter."
          value={written}
          onChange={setWritten}
        />
        {action.isError && <Problem error={action.error} />}
        <Group>
          <Button type="submit" loading={action.isPending}>
            Make the invitation
          </Button>
        </Group>
      </Stack>
    </form>
  );
}
