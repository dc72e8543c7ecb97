import { VisuallyHidden } from "@mantine/core";

import classes from "@/features/sites/Fingerprint.module.css";
import type { Group } from "@/features/sites/fingerprints";

/** A fingerprint in its groups, large enough to be read out, each with what was typed for it. */
export function Fingerprint({ value, groups }: { value: string; groups: readonly Group[] }) {
  return (
    <>
      <VisuallyHidden>Fingerprint: {value}</VisuallyHidden>
      <div className={classes.fingerprint} aria-hidden>
        {groups.map((group, at) => (
          <span key={at} className={classes.group} data-verdict={group.typed === "" ? "open" : group.verdict}>
            {group.expected}
            {group.verdict === "different" && <s>{group.typed}</s>}
          </span>
        ))}
      </div>
    </>
  );
}
