/** What is known of a site: who it is, its machine, what its operator lets it do. */
import { Anchor, Button, Stack, Text, Tooltip } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { Link } from "react-router";

import type { Site } from "@/api/types";
import { Command, Copy } from "@/components/Command";
import type { Fact } from "@/components/Facts";
import { Facts } from "@/components/Facts";
import { Panel } from "@/components/Panel";
import { Ago, Digest } from "@/components/values";
import { useMay } from "@/features/federations/federations";
import { formatGpus, formatMemory } from "@/features/sites/hardware";
import { ROTATE } from "@/features/sites/invitations";
import { featuresInWords, policyInWords } from "@/features/sites/policies";
import { formatCount } from "@/format/sizes";

export function IdentityPanel({ slug, site }: { slug: string; site: Site }) {
  const mayEnroll = useMay("enroll");
  const facts: Fact[] = [
    ["Enrolled", <Ago key="enrolled" at={site.enrolled_at} />],
    ["Last seen", <Ago key="seen" at={site.last_seen_at} />],
    ["SDK", site.sdk_version || "unknown"],
    ["Id", <Digest key="id" value={site.id} name="site's id" characters={13} />],
  ];
  if (site.invitation_id != null) {
    const short = <Digest key="invitation" value={site.invitation_id} name="invitation's id" characters={13} />;
    facts.push([
      "Invitation",
      mayEnroll ? (
        <Anchor key="invitation" component={Link} to={`/f/${slug}/sites/enrol?invitation=${site.invitation_id}`} inherit>
          {site.invitation_id.slice(0, 13)}
        </Anchor>
      ) : (
        short
      ),
    ]);
  }
  return (
    <Panel title="Identity">
      <Facts facts={facts} />
      <Key site={site} />
    </Panel>
  );
}

export function HardwarePanel({ site }: { site: Site }) {
  const { hardware } = site;
  if (hardware === null) {
    return (
      <Panel title="Hardware">
        <Text size="sm" c="dimmed">
          The site has not said what it runs on.
        </Text>
      </Panel>
    );
  }
  const gpus = hardware.gpus ?? [];
  return (
    <Panel title="Hardware">
      <Facts
        facts={[
          ["CPUs", formatCount(hardware.cpus)],
          ["Memory", hardware.memory_bytes === 0 ? "unknown" : <Memory key="memory" bytes={hardware.memory_bytes} />],
          ["GPUs", gpus.length === 0 ? "none" : formatGpus(gpus).join(", ")],
          ["Platform", hardware.platform || "unknown"],
        ]}
      />
    </Panel>
  );
}

function Memory({ bytes }: { bytes: number }) {
  return (
    <Tooltip label={`${formatCount(bytes)} bytes`}>
      <span className="numbers">{formatMemory(bytes)}</span>
    </Tooltip>
  );
}

export function PolicyPanel({ site }: { site: Site }) {
  const { policy } = site;
  return (
    <Panel title="Policy">
      {policy == null ? (
        <Text size="sm" c="dimmed">
          The site tells it when it first asks for work.
        </Text>
      ) : (
        <Stack gap={6}>
          {policyInWords(policy).map((sentence) => (
            <Text key={sentence} size="sm">
              {sentence}
            </Text>
          ))}
          <Text size="xs" c="dimmed" mt={4}>
            {policy.features && policy.features.length > 0
              ? `Its SDK can do ${featuresInWords(policy.features).join(", ")}. `
              : ""}
            All of it by the site&apos;s own word; its operator decides, with options of{" "}
            <span className="mono">hansa site run</span>.
          </Text>
        </Stack>
      )}
    </Panel>
  );
}

/** The key's fingerprint, and how the site replaces its key: nobody else can. */
function Key({ site }: { site: Site }) {
  const [isOpen, { toggle }] = useDisclosure(false);
  const groups = site.fingerprint.split("-");
  const half = Math.ceil(groups.length / 2);
  return (
    <Stack gap="xs" mt="md" align="flex-start">
      <Text size="sm" c="dimmed">
        Fingerprint of its key <Copy text={site.fingerprint} label="Copy the fingerprint" />
      </Text>
      <Text size="sm" className="mono" component="div">
        {groups.slice(0, half).join("-")}-<br />
        {groups.slice(half).join("-")}
      </Text>
      {site.state !== "revoked" && (
        <>
          <Button size="compact-xs" variant="subtle" onClick={toggle} aria-expanded={isOpen} ml={-8}>
            How it replaces the key
          </Button>
          {isOpen && (
            <Stack gap="xs" w="100%">
              <Text size="sm">The site alone can: its old key signs for the new one. At the site, stop the runner, then:</Text>
              <Command text={ROTATE} label="Copy the command that replaces the key" />
              <Text size="sm" c="dimmed">
                Then start it again. The new fingerprint shows here at once; sites that pinned the old one have to pin
                the new one.
              </Text>
            </Stack>
          )}
        </>
      )}
    </Stack>
  );
}
