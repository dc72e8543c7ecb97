import { Anchor, Group, Text } from "@mantine/core";
import { Link } from "react-router";

import type { Site } from "@/api/types";
import { Panel } from "@/components/Panel";
import { Ago } from "@/components/values";
import { useMay } from "@/features/federations/federations";
import { ApproveButton } from "@/features/sites/ApproveButton";
import { LabelChips } from "@/features/sites/LabelChips";
import classes from "@/features/sites/PendingSites.module.css";
import { RejectButton } from "@/features/sites/RejectButton";
import { formatHardware } from "@/features/sites/hardware";
import { plural } from "@/format/words";

const SHOWN = 3;

interface Props {
  slug: string;
  sites: readonly Site[]; // all that wait, newest first
  all?: boolean; // shown, however many they are
}

/** The sites that wait for somebody to let them in; nothing where none does. */
export function PendingSites({ slug, sites, all = false }: Props) {
  const mayEnroll = useMay("enroll");
  if (sites.length === 0) return null;
  const rest = all ? 0 : sites.length - SHOWN;
  return (
    <Panel
      title={plural(sites.length, "site awaits approval", "sites await approval")}
      className={`panel ${classes.panel}`}
    >
      <ul className={classes.sites}>
        {(all ? sites : sites.slice(0, SHOWN)).map((site) => (
          <Pending key={site.id} slug={slug} site={site} mayEnroll={mayEnroll} />
        ))}
      </ul>
      {rest > 0 && (
        <Anchor mt={4} display="inline-block" component={Link} to={{ search: "state=pending" }} size="sm">
          Show {rest} more
        </Anchor>
      )}
    </Panel>
  );
}

function Pending({ slug, site, mayEnroll }: { slug: string; site: Site; mayEnroll: boolean }) {
  return (
    <li className={classes.site}>
      <div>
        <Anchor component={Link} to={`/f/${slug}/sites/${site.id}`} fw={560} size="sm">
          {site.name}
        </Anchor>
        <Text size="xs" c="dimmed">
          enrolled <Ago at={site.enrolled_at} />
        </Text>
      </div>
      <div>
        <Text size="sm">{site.hardware === null ? "hardware unknown" : formatHardware(site.hardware)}</Text>
        {Object.keys(site.labels).length > 0 && <LabelChips labels={site.labels} />}
      </div>
      <span className={classes.fingerprint}>{site.fingerprint}</span>
      {mayEnroll ? (
        <Group gap="xs" wrap="nowrap">
          <ApproveButton slug={slug} site={site} />
          <RejectButton slug={slug} site={site} size="xs" />
        </Group>
      ) : (
        <Text size="xs" c="dimmed">
          an operator decides
        </Text>
      )}
    </li>
  );
}
