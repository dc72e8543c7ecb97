/** The sites that came with an invitation, as they come: compared, let in, seen at work. */
import { Anchor, Box, Group, Stack, Text } from "@mantine/core";
import { Link } from "react-router";

import type { Site } from "@/api/types";
import { Command } from "@/components/Command";
import { StateBadge } from "@/components/StateBadge";
import { SITE_STATES } from "@/components/states";
import { Ago } from "@/components/values";
import { ApproveForm } from "@/features/sites/ApproveForm";
import classes from "@/features/sites/Arrivals.module.css";
import { Presence } from "@/features/sites/Presence";
import { formatHardware } from "@/features/sites/hardware";
import { startCommand } from "@/features/sites/invitations";

/** Says that the page waits, and for what. */
export function Waiting({ title, children }: { title: string; children: React.ReactNode }) {
  return (
    <div className={classes.waiting} role="status">
      <span className={classes.pulse} aria-hidden />
      <div>
        <Text fw={560} size="sm">
          {title}
        </Text>
        <Text size="sm" c="dimmed">
          {children}
        </Text>
      </div>
    </div>
  );
}

/** One site that came, and what is to do about it. */
export function Arrival({ slug, site }: { slug: string; site: Site }) {
  return (
    <Box className="panel" p="md">
      <Group gap="sm" mb={2}>
        <Anchor component={Link} to={`/f/${slug}/sites/${site.id}`} fw={600}>
          {site.name}
        </Anchor>
        <StateBadge look={SITE_STATES[site.state]} />
        {site.state === "active" && (
          <Text size="sm" component="span">
            <Presence site={site} />
          </Text>
        )}
      </Group>
      <Text size="sm" c="dimmed" mb="sm">
        Enrolled <Ago at={site.enrolled_at} />
        {site.hardware !== null && <> · {formatHardware(site.hardware)}</>}
      </Text>
      {site.state === "pending" && <ApproveForm slug={slug} site={site} />}
      {site.state === "active" &&
        (site.online ? (
          <Text size="sm">It is there and waits for work.</Text>
        ) : (
          <Stack gap="xs">
            <Text size="sm">It may take part, and has not asked for work yet. At the site:</Text>
            <Command text={startCommand("")} />
          </Stack>
        ))}
      {site.state === "revoked" && <Text size="sm">It was turned away, and stays away.</Text>}
      {site.state === "suspended" && <Text size="sm">It is kept out until somebody reinstates it.</Text>}
    </Box>
  );
}
