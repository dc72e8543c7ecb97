/** Letting a site in: never without a look at its fingerprint. */
import { Alert, Button, Checkbox, Group, Stack, Text, TextInput } from "@mantine/core";
import { IconAlertTriangle, IconCheck } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useId, useState } from "react";

import type { Site } from "@/api/types";
import { Problem } from "@/components/Problem";
import { useAction } from "@/components/actions";
import { Fingerprint } from "@/features/sites/Fingerprint";
import { RejectButton } from "@/features/sites/RejectButton";
import { compareFingerprints } from "@/features/sites/fingerprints";
import { STATUS } from "@/features/sites/invitations";
import { changeSite, noteSite } from "@/features/sites/sites";

interface Props {
  slug: string;
  site: Site;
  after?: () => void; // it was approved or rejected
}

export function ApproveForm({ slug, site, after }: Props) {
  const queryClient = useQueryClient();
  const form = useId();
  const [typed, setTyped] = useState("");
  const [isSaid, setSaid] = useState(false);
  const comparison = compareFingerprints(site.fingerprint, typed);
  const isDifferent = comparison.verdict === "different";
  const isCompared = comparison.verdict === "same" || (isSaid && !isDifferent);
  const action = useAction({
    run: () => changeSite(slug, site.id, "approve", ""),
    quiet: true,
    done: `${site.name} is active`,
    after: (changed) => {
      after?.();
      return noteSite(queryClient, slug, changed);
    },
  });
  return (
    <Stack gap="sm">
      <Text size="sm">
        Ask the site&apos;s operator, by a channel that you trust, for the fingerprint that{" "}
        <span className="mono">{STATUS}</span> prints. It has to be this one:
      </Text>
      <Fingerprint value={site.fingerprint} groups={comparison.groups} />
      <Stack
        component="form"
        id={form}
        gap="sm"
        onSubmit={(event) => {
          event.preventDefault();
          if (isCompared) action.mutate();
        }}
      >
        <TextInput
          label="What the operator tells you"
          description="Typed or pasted, it is compared here. Spaces, dashes and capitals do not matter."
          value={typed}
          onChange={(event) => setTyped(event.currentTarget.value)}
          autoComplete="off"
          spellCheck={false}
          maw={460}
          classNames={{ input: "mono" }}
          rightSection={comparison.verdict === "same" ? <IconCheck size={17} aria-label="It is the same" /> : null}
        />
        {isDifferent ? (
          <Alert color="red" icon={<IconAlertTriangle size={18} />} title="This is another key" role="alert">
            Somebody else may hold the invitation. Do not approve the site before its operator has looked again.
          </Alert>
        ) : (
          comparison.verdict === "open" && (
            <Checkbox
              label={`I have compared it: the operator of ${site.name} reads the same`}
              checked={isSaid}
              onChange={(event) => setSaid(event.currentTarget.checked)}
            />
          )
        )}
      </Stack>
      {action.isError && <Problem error={action.error} />}
      {/* Outside the form: what is submitted in the question must not approve the site. */}
      <Group gap="xs">
        <Button type="submit" form={form} disabled={!isCompared} loading={action.isPending}>
          Approve
        </Button>
        <RejectButton slug={slug} site={site} {...(after ? { after } : {})} />
        {!isCompared && (
          <Text size="xs" c="dimmed">
            {isDifferent ? "The fingerprints differ." : "Compare the fingerprint first."}
          </Text>
        )}
      </Group>
    </Stack>
  );
}
