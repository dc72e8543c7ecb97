import { Text } from "@mantine/core";
import { IconCheck, IconLock, IconX } from "@tabler/icons-react";

import type { RoundDetail, Schema } from "@/api/types";
import { isOpen } from "@/components/states";
import { Digest, useNow } from "@/components/values";
import classes from "@/features/runs/SecureSteps.module.css";
import { someNames } from "@/features/runs/parts";
import type { SecureStep } from "@/features/runs/secure";
import { secureSteps } from "@/features/runs/secure";
import { formatRelative } from "@/format/times";

interface Props {
  round: RoundDetail;
  secure: Schema<"SecureRound">;
}

const STANDINGS: Record<SecureStep["standing"], string> = {
  done: "done",
  now: "in hand",
  coming: "to come",
  broken: "ended here",
};

/** How far a round of a secure run is: step by step, and who is waited for. */
export function SecureSteps({ round, secure }: Props) {
  const now = useNow();
  const refusals = Object.entries(secure.refusals);
  return (
    <div className={classes.secure}>
      <ol className={classes.steps} aria-label="Steps of the secure round">
        {secureSteps(round, secure).map((step, index) => (
          <li key={step.state} className={classes.step} data-standing={step.standing}>
            <span className={classes.number} aria-hidden>
              {step.standing === "done" ? (
                <IconCheck size={13} stroke={2.6} />
              ) : step.standing === "broken" ? (
                <IconX size={13} stroke={2.6} />
              ) : (
                index + 1
              )}
            </span>
            <span className={classes.name}>{step.name}</span>
            <span className={classes.told}>{step.told}</span>
            <span className={classes.unseen}>{STANDINGS[step.standing]}</span>
          </li>
        ))}
      </ol>
      {isOpen(round.state) && secure.waiting_for.length > 0 && (
        <Text size="sm">
          Waits for {someNames(secure.waiting_for, 6)}
          {secure.expires_at !== null && ` until ${formatRelative(new Date(secure.expires_at), now)}`}.
        </Text>
      )}
      {refusals.length > 0 && (
        <dl className={classes.refusals}>
          {refusals.map(([site, reason]) => (
            <div key={site}>
              <dt>{site} refuses</dt>
              <dd>{reason}</dd>
            </div>
          ))}
        </dl>
      )}
      <Text size="xs" c="dimmed" component="div" className={classes.foot}>
        <IconLock size={13} aria-hidden /> The hub learns the sum alone.
        {secure.roster !== null && (
          <span>
            Roster {secure.roster_version}: <Digest value={secure.roster} name="roster's digest" />
          </span>
        )}
        {secure.transcript !== null && (
          <span>
            Transcript: <Digest value={secure.transcript} name="transcript's digest" />
          </span>
        )}
      </Text>
    </div>
  );
}
