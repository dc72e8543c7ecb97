import { Text } from "@mantine/core";
import { IconAlertTriangle } from "@tabler/icons-react";

import classes from "@/features/runs/FailureGroups.module.css";
import { Traceback } from "@/features/runs/Traceback";
import type { FailureGroup } from "@/features/runs/parts";
import { someNames } from "@/features/runs/parts";
import { plural } from "@/format/words";

interface Props {
  groups: readonly FailureGroup[];
  where?: string; // "in round 7"
}

/** Failures by their reason; the traceback and the log of one of the sites are a click away. */
export function FailureGroups({ groups, where }: Props) {
  return (
    <div className={classes.groups}>
      {groups.map((group) => (
        <div key={group.reason} className={classes.group}>
          <IconAlertTriangle size={17} className={classes.icon} aria-hidden />
          <div className={classes.text}>
            <Text size="sm">
              <b>
                {plural(group.sites.length, "site")} failed{where === undefined ? "" : ` ${where}`}:
              </b>{" "}
              {group.reason}
            </Text>
            <Text size="xs" className={classes.sites}>
              {someNames(group.sites, 8)}
            </Text>
            {(group.traceback !== null || group.log !== null) && (
              <details className={classes.details}>
                <summary>Traceback and log</summary>
                <div className={classes.blocks}>
                  <Traceback traceback={group.traceback} log={group.log} site={group.example} />
                </div>
              </details>
            )}
          </div>
        </div>
      ))}
    </div>
  );
}
