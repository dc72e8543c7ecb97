import { Button } from "@mantine/core";
import { IconDownload } from "@tabler/icons-react";

import type { Log } from "@/features/audit/audit";
import { exportHref } from "@/features/audit/audit";

/** The whole log as a file, for an archive or for `hansa audit verify FILE`. */
export function ExportButton({ log }: { log: Log }) {
  return (
    <Button
      component="a"
      href={exportHref(log)}
      download={`audit-${log ?? "hub"}.ndjson`}
      variant="default"
      leftSection={<IconDownload size={16} aria-hidden />}
    >
      Export
    </Button>
  );
}
