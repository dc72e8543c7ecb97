import { Button, Modal, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";

import type { Site } from "@/api/types";
import { ApproveForm } from "@/features/sites/ApproveForm";

/** Opens the comparison of a site's fingerprint. */
export function ApproveButton({ slug, site }: { slug: string; site: Site }) {
  const [opened, { open, close }] = useDisclosure(false);
  return (
    <>
      <Button size="xs" onClick={open} aria-label={`Compare and approve ${site.name}`}>
        Compare and approve
      </Button>
      <Modal opened={opened} onClose={close} title={<Text fw={640}>Approve {site.name}?</Text>} size="lg">
        <ApproveForm slug={slug} site={site} after={close} />
      </Modal>
    </>
  );
}
