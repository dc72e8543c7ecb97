import { Button, Text, Tooltip } from "@mantine/core";
import { useState } from "react";

import { StateBadge } from "@/components/StateBadge";
import { TASK_STATES } from "@/components/states";
import { Digest } from "@/components/values";
import type { RoundAccount } from "@/features/receipts/body";
import classes from "@/features/receipts/receipts.module.css";
import type { SitePart } from "@/features/receipts/tell";
import { excludedOf, partsOf } from "@/features/receipts/tell";
import { formatBytes, formatCount } from "@/format/sizes";
import { plural } from "@/format/words";

const SHOWN = 40;

/** Who was asked, what came of it and how much it counted; and who was not asked, with the reason. */
export function RoundParts({ round }: { round: RoundAccount }) {
  const [all, setAll] = useState(false);
  const parts = partsOf(round);
  const excluded = excludedOf(round);
  const total = parts.reduce((sum, part) => sum + (part.weight ?? 0) * (part.scale ?? 0), 0);
  return (
    <section aria-label="Sites">
      <Text component="h3" fw={600} size="sm" m={0} mb={6}>
        Sites
      </Text>
      <div className={classes.scroll} tabIndex={0} role="group" aria-label="Every site's part">
        <table className={classes.parts}>
          <thead>
            <tr>
              <th scope="col">Site</th>
              <th scope="col">Outcome</th>
              <th scope="col" className={classes.end}>
                Examples
              </th>
              <th scope="col" className={classes.end}>
                Weight
              </th>
              <th scope="col">{round.kind === "train" ? "Update" : "Signed report"}</th>
            </tr>
          </thead>
          <tbody>
            {(all ? parts : parts.slice(0, SHOWN)).map((part) => (
              <Part key={part.key} part={part} total={total} />
            ))}
          </tbody>
        </table>
      </div>
      {parts.length > SHOWN && !all && (
        <Button variant="subtle" size="xs" mt={4} onClick={() => setAll(true)}>
          Show all {formatCount(parts.length)}
        </Button>
      )}
      {excluded.map(({ reason, sites }) => (
        <Text key={reason} size="sm" mt={6}>
          <Text span c="dimmed" inherit>
            Not asked, {plural(sites.length, "site")}:
          </Text>{" "}
          {sites.slice(0, SHOWN).join(", ")}
          {sites.length > SHOWN && ` and ${sites.length - SHOWN} more`} ({reason})
        </Text>
      ))}
    </section>
  );
}

function Part({ part, total }: { part: SitePart; total: number }) {
  return (
    <tr>
      <td>
        <Tooltip label={<span className="mono">{part.fingerprint}</span>}>
          <span>{part.site}</span>
        </Tooltip>
        {part.isEvaluator && (
          <Text span size="xs" c="dimmed">
            {" "}
            evaluates only
          </Text>
        )}
        {part.reason !== null && (
          <Text size="xs" c="dimmed">
            {part.reason}
          </Text>
        )}
      </td>
      <td>{part.outcome === null ? "of an earlier round" : <StateBadge look={TASK_STATES[part.outcome]} />}</td>
      <td className={classes.end}>{part.examples === null ? "–" : formatCount(part.examples)}</td>
      <td className={classes.end}>{part.weight === null ? "–" : <Weight part={part} total={total} />}</td>
      <td>
        {part.digest === null ? (
          "–"
        ) : (
          <span className={classes.update}>
            <Digest value={part.digest} />
            {part.size !== null && (
              <Text span size="xs" c="dimmed">
                {formatBytes(part.size)}
              </Text>
            )}
          </span>
        )}
      </td>
    </tr>
  );
}

function Weight({ part, total }: { part: SitePart; total: number }) {
  const share = total === 0 ? 0 : ((part.weight ?? 0) * (part.scale ?? 0)) / total;
  const scaled = part.scale !== null && part.scale !== 1 ? ` scaled by ${part.scale} at staleness ${part.staleness}` : "";
  return (
    <Tooltip label={`${formatCount(part.weight ?? 0)}${scaled}`}>
      <span>{(100 * share).toFixed(1)} %</span>
    </Tooltip>
  );
}
