/** The frame of a federation's pages, live for as long as one of them is open. */
import { Menu, Text, Tooltip, UnstyledButton } from "@mantine/core";
import {
  IconBell,
  IconBox,
  IconChartLine,
  IconHistory,
  IconLayoutDashboard,
  IconSelector,
  IconServer2,
  IconSettings,
  IconUsers,
  IconWebhook,
} from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import type { Connection } from "@/api/live";
import { useLive } from "@/api/live";
import { useListing } from "@/api/paging";
import classes from "@/app/FederationFrame.module.css";
import { hubPlaces } from "@/app/HubFrame";
import type { Place } from "@/app/Shell";
import { Shell } from "@/app/Shell";
import { Problem } from "@/components/Problem";
import type { Overview } from "@/features/federations/federations";
import { overviewQuery, overviews, useSlug } from "@/features/federations/federations";
import { useUser } from "@/features/session/session";

export function FederationFrame() {
  const slug = useSlug();
  const user = useUser();
  const connection = useLive(slug);
  const overview = useQuery(overviewQuery(slug));
  return (
    <Shell
      head={<Switcher slug={slug} overview={overview.data} />}
      status={<Pulse connection={connection} />}
      groups={[
        { title: "Federation", places: places(slug, overview.data) },
        { title: "Hub", places: hubPlaces(user.is_admin) },
      ]}
      {...(overview.isError && overview.data === undefined
        ? { refusal: <Problem error={overview.error} retry={() => void overview.refetch()} /> }
        : {})}
    />
  );
}

function places(slug: string, overview: Overview | undefined): Place[] {
  const root = `/f/${slug}`;
  const may = overview?.federation.my_actions ?? [];
  const pending = overview?.sites.pending ?? 0;
  const busy = overview?.runs.running ?? 0;
  const alerts = overview?.open_alerts ?? 0;
  return [
    { label: "Overview", to: root, icon: IconLayoutDashboard, end: true },
    { label: "Sites", to: `${root}/sites`, icon: IconServer2, ...(pending > 0 ? { note: `${pending} new` } : {}) },
    { label: "Runs", to: `${root}/runs`, icon: IconChartLine, ...(busy > 0 ? { note: String(busy) } : {}) },
    { label: "Models", to: `${root}/models`, icon: IconBox },
    {
      label: "Alerts",
      to: `${root}/alerts`,
      icon: IconBell,
      ...(alerts > 0 ? { note: String(alerts), alarming: true } : {}),
    },
    ...(may.includes("audit") ? [{ label: "Audit", to: `${root}/audit`, icon: IconHistory }] : []),
    { label: "Members", to: `${root}/members`, icon: IconUsers },
    ...(may.includes("govern") ? [{ label: "Channels", to: `${root}/channels`, icon: IconWebhook }] : []),
    { label: "Settings", to: `${root}/settings`, icon: IconSettings },
  ];
}

function Switcher({ slug, overview }: { slug: string; overview: Overview | undefined }) {
  return (
    <Menu width={220} position="bottom-start">
      <Menu.Target>
        <UnstyledButton className={classes.switcher}>
          <span className={classes.name}>
            <Text size="sm" fw={600} truncate>
              {overview?.federation.name ?? slug}
            </Text>
            <Text size="xs" c="dimmed" truncate>
              {overview?.federation.my_role ?? "administrator"}
            </Text>
          </span>
          <IconSelector size={16} aria-hidden />
        </UnstyledButton>
      </Menu.Target>
      <Menu.Dropdown>
        <Others slug={slug} />
      </Menu.Dropdown>
    </Menu>
  );
}

function Others({ slug }: { slug: string }) {
  const all = useListing(overviews);
  return (
    <>
      {all.items.map(({ federation }) => (
        <Menu.Item
          key={federation.id}
          component={Link}
          to={`/f/${federation.slug}`}
          {...(federation.slug === slug ? { "aria-current": "true" as const, fw: 600 } : {})}
        >
          {federation.name}
        </Menu.Item>
      ))}
      <Menu.Divider />
      <Menu.Item component={Link} to="/">
        All federations
      </Menu.Item>
    </>
  );
}

const PULSES: Record<Connection, { word: string; told: string }> = {
  live: { word: "Live", told: "What happens in the federation shows here at once." },
  connecting: { word: "Connecting", told: "The event stream is being opened." },
  lost: { word: "Connection lost", told: "What you see may be old. The console reconnects by itself." },
};

function Pulse({ connection }: { connection: Connection }) {
  const { word, told } = PULSES[connection];
  return (
    <Tooltip label={told}>
      <div className={classes.pulse} data-connection={connection} role="status">
        <span className={classes.light} aria-hidden />
        {word}
      </div>
    </Tooltip>
  );
}
