import { Button, Group, Stack } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconPencil } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import type { Site } from "@/api/types";
import { Panel } from "@/components/Panel";
import { Problem } from "@/components/Problem";
import { useAction } from "@/components/actions";
import { useMay } from "@/features/federations/federations";
import { LabelChips } from "@/features/sites/LabelChips";
import { LabelsInput } from "@/features/sites/LabelsInput";
import { readLabels, writtenLabels } from "@/features/sites/labels";
import { noteSite, putLabels } from "@/features/sites/sites";

/** A site's labels, by which runs choose it, and for who may the editor of them. */
export function LabelsPanel({ slug, site }: { slug: string; site: Site }) {
  const mayEnroll = useMay("enroll");
  const [isEditing, { open, close }] = useDisclosure(false);
  return (
    <Panel
      title="Labels"
      aside={
        mayEnroll &&
        !isEditing &&
        site.state !== "revoked" && (
          <Button
            size="compact-xs"
            variant="subtle"
            onClick={open}
            leftSection={<IconPencil size={13} aria-hidden />}
            aria-label="Edit the labels"
          >
            Edit
          </Button>
        )
      }
    >
      {isEditing ? (
        <Editor slug={slug} site={site} close={close} />
      ) : (
        <LabelChips labels={site.labels} none="None. Runs can choose their sites by labels." />
      )}
    </Panel>
  );
}

function Editor({ slug, site, close }: { slug: string; site: Site; close: () => void }) {
  const queryClient = useQueryClient();
  const [written, setWritten] = useState(() => writtenLabels(site.labels));
  const { labels, wrong } = readLabels(written);
  const action = useAction({
    run: () => putLabels(slug, site.id, labels),
    quiet: true,
    done: "The labels are set",
    after: (changed) => {
      close();
      return noteSite(queryClient, slug, changed);
    },
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        if (wrong === null) action.mutate();
      }}
    >
      <Stack gap="sm">
        <LabelsInput label={`Labels of ${site.name}`} value={written} onChange={setWritten} />
        {action.isError && <Problem error={action.error} />}
        <Group gap="xs" justify="flex-end">
          <Button size="xs" variant="default" onClick={close}>
            Not now
          </Button>
          <Button size="xs" type="submit" loading={action.isPending}>
            Save
          </Button>
        </Group>
      </Stack>
    </form>
  );
}
