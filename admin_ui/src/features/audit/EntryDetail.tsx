import { Box } from "@mantine/core";

import { Facts } from "@/components/Facts";
import { Digest } from "@/components/values";
import classes from "@/features/audit/audit.module.css";
import type { AuditEntry } from "@/features/audit/audit";
import { formatFully } from "@/format/times";

/** All that an entry says. */
export function EntryDetail({ entry }: { entry: AuditEntry }) {
  const { actor } = entry;
  return (
    <Box className={classes.detail}>
      <Facts
        facts={[
          ["When", formatFully(new Date(entry.at))],
          ["Who", `${actor.kind} ${actor.name}`],
          ...(actor.id == null ? [] : [["Their id", <Digest key="id" value={actor.id} name="id" characters={36} />] as const]),
          ["From where", actor.address ?? "not known"],
          ...(actor.token_id == null
            ? []
            : [["Token in use", <Digest key="token" value={actor.token_id} name="token's id" characters={36} />] as const]),
          ["Digest", <Digest key="digest" value={entry.digest} characters={20} />],
          [
            "Of the entry before",
            entry.previous == null ? "this is the first" : <Digest key="previous" value={entry.previous} characters={20} />,
          ],
        ]}
      />
      <pre className={classes.raw} tabIndex={0} aria-label="The entry's data">
        {JSON.stringify({ action: entry.action, data: entry.data }, null, 2)}
      </pre>
    </Box>
  );
}
