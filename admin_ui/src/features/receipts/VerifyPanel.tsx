/** The verification of a run in this browser, with the keys that its reader knows. */
import { Button, Group, Progress, Stack, Text, TextInput, Textarea } from "@mantine/core";
import { IconShieldCheck } from "@tabler/icons-react";
import { useMutation, useQueryClient } from "@tanstack/react-query";
import { useEffect, useRef, useState } from "react";

import type { Run } from "@/api/types";
import { Panel } from "@/components/Panel";
import { Problem } from "@/components/Problem";
import { VerifyReport } from "@/features/receipts/VerifyReport";
import classes from "@/features/receipts/receipts.module.css";
import { readHubKeys, readSiteKeys } from "@/features/receipts/verification/trust";
import type { Progress as Done } from "@/features/receipts/verification/verify";
import { verifyRun } from "@/features/receipts/verification/verify";
import { formatCount } from "@/format/sizes";

interface Props {
  slug: string;
  run: Run;
  receipts: number; // that there are now
}

export function VerifyPanel({ slug, run, receipts }: Props) {
  const client = useQueryClient();
  // Pasted keys are not in the address: a link must not bring the key that it is checked with.
  const [hubText, setHubText] = useState("");
  const [siteText, setSiteText] = useState("");
  const [progress, setProgress] = useState<Done>();
  const running = useRef<AbortController>(null);
  useEffect(() => () => running.current?.abort(), []);
  const hub = readHubKeys(hubText);
  const sites = readSiteKeys(siteText);
  const verify = useMutation({
    mutationFn: async () => {
      running.current?.abort();
      const controller = new AbortController();
      running.current = controller;
      const trust = { hubKeys: hub.keys, siteKeys: sites.keys };
      const report = await verifyRun(client, slug, run.id, trust, setProgress, controller.signal);
      return { report, trust };
    },
    onSettled: () => setProgress(undefined),
  });
  return (
    <Panel title="Verification">
      <Stack gap="md">
        <Text size="sm" c="dimmed" maw={860}>
          This browser recomputes every digest, checks every signature of the hub and of the sites, and follows the chain.
          What a hub says of its own key proves nothing: paste the fingerprints that its operator and the sites&apos; operators
          told you another way.
        </Text>
        <div className={classes.keys}>
          <TextInput
            label="The hub's key"
            description="Its fingerprint, from its operator. More than one if it was changed."
            placeholder="xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx"
            value={hubText}
            onChange={(event) => setHubText(event.currentTarget.value)}
            error={hub.strange[0] === undefined ? null : "a fingerprint has eight groups of four letters"}
            classNames={{ input: "mono" }}
            autoComplete="off"
          />
          <Textarea
            label="The sites' keys"
            description="NAME=FINGERPRINT, one a line, as hansa site status shows it."
            placeholder="oslo=xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx-xxxx"
            value={siteText}
            onChange={(event) => setSiteText(event.currentTarget.value)}
            error={sites.strange[0] === undefined ? null : `not NAME=FINGERPRINT: ${sites.strange[0].slice(0, 60)}`}
            classNames={{ input: "mono" }}
            autosize
            minRows={1}
            maxRows={8}
          />
        </div>
        <Group gap="md">
          <Button
            leftSection={<IconShieldCheck size={16} aria-hidden />}
            onClick={() => verify.mutate()}
            loading={verify.isPending}
            disabled={hub.strange.length + sites.strange.length > 0}
          >
            Verify in this browser
          </Button>
          {progress !== undefined && (
            <Text size="sm" c="dimmed" className="numbers">
              {formatCount(progress.signatures)} signatures, {formatCount(progress.receipts)} of {formatCount(progress.all)} receipts
            </Text>
          )}
        </Group>
        {progress !== undefined && (
          <Progress value={(100 * progress.receipts) / Math.max(progress.all, 1)} aria-label="Receipts checked" />
        )}
        <div aria-live="polite">
          {verify.isError && <Problem error={verify.error} retry={() => verify.mutate()} />}
          {verify.isSuccess && (
            <VerifyReport slug={slug} run={run} report={verify.data.report} trust={verify.data.trust} newer={receipts - verify.data.report.receipts} />
          )}
        </div>
      </Stack>
    </Panel>
  );
}
