import { Button, Group, Stack, Text, TextInput } from "@mantine/core";
import { IconLock } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { Problem } from "@/components/Problem";
import { ConfirmButton, useAction } from "@/components/actions";
import { Ago } from "@/components/values";
import { useMay } from "@/features/federations/federations";
import type { Receipt } from "@/features/receipts/receipts";
import { holdReceipt, releaseReceipt } from "@/features/receipts/receipts";

interface Props {
  slug: string;
  runId: string;
  receipt: Receipt;
}

/** Whether the retention policy may delete what a receipt names, and who said that it may not. */
export function HoldBox({ slug, runId, receipt }: Props) {
  const client = useQueryClient();
  const mayHold = useMay("hold");
  const { hold } = receipt;
  if (hold === null) return mayHold ? <HoldForm slug={slug} runId={runId} receipt={receipt} /> : null;
  return (
    <Group justify="space-between" gap="sm" className="panel" p="sm" component="section" aria-label="Hold">
      <Text size="sm" component="div">
        <IconLock size={14} aria-hidden style={{ verticalAlign: "-2px" }} /> Held by {hold.held_by}, <Ago at={hold.created_at} />:{" "}
        {hold.reason}
      </Text>
      {mayHold && (
        <ConfirmButton
          label="Release"
          title={`Release receipt ${receipt.number}?`}
          size="xs"
          run={() => releaseReceipt(client, slug, runId, receipt)}
          done="Released: the retention policy decides again"
        >
          The retention policy may then delete the files that this receipt names. A round without them cannot be recomputed
          any more.
        </ConfirmButton>
      )}
    </Group>
  );
}

function HoldForm({ slug, runId, receipt }: Props) {
  const client = useQueryClient();
  const [reason, setReason] = useState("");
  const hold = useAction({
    run: () => holdReceipt(client, slug, runId, receipt.digest, reason.trim()),
    done: "Held: what this receipt names stays",
    quiet: true,
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        hold.mutate();
      }}
    >
      <Stack gap="xs">
        <Group gap="xs" align="flex-end">
          <TextInput
            label="Hold its files"
            description="Keeps every file that it names from being deleted by the retention policy. Say why."
            placeholder="audit of 2026, case 14"
            value={reason}
            maxLength={1000}
            onChange={(event) => setReason(event.currentTarget.value)}
            style={{ flex: 1 }}
          />
          <Button type="submit" variant="default" loading={hold.isPending} disabled={reason.trim() === ""}>
            Hold
          </Button>
        </Group>
        {hold.isError && <Problem error={hold.error} />}
      </Stack>
    </form>
  );
}
