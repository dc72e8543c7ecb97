import { Alert, Stack, Text } from "@mantine/core";
import { IconAlertTriangle, IconCircleCheck, IconCircleDashed, IconCircleX, IconShieldCheck } from "@tabler/icons-react";

import type { Run } from "@/api/types";
import { Command } from "@/components/Command";
import { Facts } from "@/components/Facts";
import { Digest } from "@/components/values";
import classes from "@/features/receipts/receipts.module.css";
import { verifyCommand } from "@/features/receipts/verification/command";
import type { CheckRow, Finding } from "@/features/receipts/verification/ledger";
import { CHECKS, grouped, rowsOf } from "@/features/receipts/verification/ledger";
import type { Trust } from "@/features/receipts/verification/trust";
import type { Report } from "@/features/receipts/verification/verify";
import { formatCount } from "@/format/sizes";
import { plural } from "@/format/words";

interface Props {
  slug: string;
  run: Run;
  report: Report;
  trust: Trust;
  newer: number; // receipts that came since
}

const GROUPS_SHOWN = 12;
const SUBJECTS_SHOWN = 4;

/** What holds, what does not, and what could not be checked here. */
export function VerifyReport({ slug, run, report, trust, newer }: Props) {
  const isWrong = report.wrong.length > 0;
  return (
    <Stack gap="md">
      <Alert
        color={isWrong ? "red" : "green"}
        icon={isWrong ? <IconAlertTriangle size={18} /> : <IconShieldCheck size={18} />}
        title={isWrong ? "Something is wrong" : "Nothing is wrong, as far as a browser can check"}
      >
        <Text size="sm">
          {plural(report.receipts, "receipt")} and {plural(report.signatures, "signature")} were looked at.{" "}
          {isWrong
            ? `${plural(report.wrong.length, "finding")} below: keep the receipts and ask the hub's operator.`
            : "What is left takes the stored files, or keys that nobody gave: see below."}
          {newer > 0 && ` ${plural(newer, "receipt")} came since: verify again.`}
        </Text>
      </Alert>
      {isWrong && <Findings title="Wrong" findings={report.wrong} />}
      <table className={classes.checks}>
        <thead>
          <tr>
            <th scope="col">Check</th>
            <th scope="col" className={classes.meaning}>
              Holds when
            </th>
            <th scope="col">Result</th>
            <th scope="col" className={classes.end}>
              Hold
            </th>
            <th scope="col" className={classes.end}>
              Wrong
            </th>
            <th scope="col" className={classes.end}>
              Not checked
            </th>
          </tr>
        </thead>
        <tbody>
          {rowsOf(report).map((row) => (
            <tr key={row.check}>
              <th scope="row">{row.check.charAt(0).toUpperCase() + row.check.slice(1)}</th>
              <td className={classes.meaning}>{CHECKS[row.check]}</td>
              <td>
                <Result row={row} />
              </td>
              <td className={classes.end}>{count(row.holds)}</td>
              <td className={classes.end}>{count(row.wrong)}</td>
              <td className={classes.end}>{count(row.unchecked)}</td>
            </tr>
          ))}
        </tbody>
      </table>
      <Findings title="Not checked here" findings={report.unchecked} />
      <Facts
        facts={[
          ["Signed by", report.hubKeys.length === 0 ? "nobody" : report.hubKeys.map((key) => <Digest key={key} value={key} name="fingerprint" characters={40} />)],
          ["The hub shows", <Digest key="shown" value={report.shownKey} name="fingerprint" characters={40} />],
          ["Last receipt", report.head === null ? "–" : <Digest key="head" value={report.head} characters={32} />],
        ]}
      />
      <div>
        <Text size="sm" mb={6}>
          The rest, recomputing every aggregate from the stored updates, bit for bit:
        </Text>
        <Command text={verifyCommand(slug, run.id, trust)} />
        <Text size="xs" c="dimmed" mt={6}>
          The last receipt&apos;s digest stands for everything before it. A hub could sign two histories for two readers:
          compare it with theirs.
        </Text>
      </div>
    </Stack>
  );
}

function Result({ row }: { row: CheckRow }) {
  if (row.wrong > 0) {
    return (
      <Text component="span" size="sm" c="var(--mantine-color-error)" fw={560} className={classes.result ?? ""}>
        <IconCircleX size={15} aria-hidden /> does not hold
      </Text>
    );
  }
  if (row.holds > 0) {
    return (
      <Text component="span" size="sm" c="light-dark(#17612a, #69db7c)" className={classes.result ?? ""}>
        <IconCircleCheck size={15} aria-hidden /> {row.unchecked > 0 ? "holds, in part" : "holds"}
      </Text>
    );
  }
  return (
    <Text component="span" size="sm" c="dimmed" className={classes.result ?? ""}>
      <IconCircleDashed size={15} aria-hidden /> not checked
    </Text>
  );
}

function Findings({ title, findings }: { title: string; findings: readonly Finding[] }) {
  const groups = grouped(findings);
  if (groups.length === 0) return null;
  return (
    <section aria-label={title}>
      <Text component="h3" fw={600} size="sm" m={0} mb={6}>
        {title}
      </Text>
      <ul className={classes.findings}>
        {groups.slice(0, GROUPS_SHOWN).map(({ check, message, subjects }) => (
          <li key={`${check} ${message}`}>
            <Text span fw={560} inherit>
              {check}
            </Text>
            : {message}{" "}
            <Text span c="dimmed" inherit>
              ({subjects.slice(0, SUBJECTS_SHOWN).join("; ")}
              {subjects.length > SUBJECTS_SHOWN && ` and ${formatCount(subjects.length - SUBJECTS_SHOWN)} more`})
            </Text>
          </li>
        ))}
      </ul>
      {groups.length > GROUPS_SHOWN && (
        <Text size="sm" c="dimmed" mt={4}>
          and {formatCount(groups.length - GROUPS_SHOWN)} more kinds
        </Text>
      )}
    </section>
  );
}

function count(number: number): string {
  return number === 0 ? "–" : formatCount(number);
}
