import { Anchor, Badge, Button, Group, Text } from "@mantine/core";
import { useQueryClient } from "@tanstack/react-query";
import { Link } from "react-router";

import { keys } from "@/api/keys";
import type { Alert } from "@/api/types";
import { useAction } from "@/components/actions";
import { Ago } from "@/components/values";
import classes from "@/features/alerts/AlertList.module.css";
import { SEVERITIES, acknowledge, actionFor } from "@/features/alerts/alerts";
import { useMay } from "@/features/federations/federations";
import { humane } from "@/format/words";

/** Alerts with what they are about, and a button for those who may do something about it. */
export function AlertList({ slug, alerts }: { slug: string; alerts: readonly Alert[] }) {
  return (
    <ul className={classes.list}>
      {alerts.map((alert) => (
        <Item key={alert.id} slug={slug} alert={alert} />
      ))}
    </ul>
  );
}

function Item({ slug, alert }: { slug: string; alert: Alert }) {
  const queryClient = useQueryClient();
  const may = useMay(actionFor(alert.kind));
  const severity = SEVERITIES[alert.severity] ?? { label: alert.severity, colour: "gray" };
  const isOpen = alert.resolved_at === null && alert.acknowledged_at === null;
  const action = useAction({
    run: () => acknowledge(slug, alert.id),
    after: () =>
      Promise.all([
        queryClient.invalidateQueries({ queryKey: keys.domain(slug, "alerts") }),
        queryClient.invalidateQueries({ queryKey: keys.domain(slug, "overview") }),
      ]),
  });
  return (
    <li className={classes.item} data-severity={isOpen ? alert.severity : "over"}>
      <div className={classes.text}>
        <Group gap={8}>
          <Badge variant="light" color={isOpen ? severity.colour : "gray"} radius="sm" tt="none" fw={560}>
            {severity.label}
          </Badge>
          <Text size="sm" fw={560}>
            {humane(alert.kind)}
          </Text>
          {alert.count > 1 && (
            <Text size="xs" c="dimmed">
              {alert.count} times
            </Text>
          )}
        </Group>
        <Text size="sm" mt={2}>
          {alert.message}
        </Text>
        <Text size="xs" c="dimmed" component="div">
          <Ago at={alert.last_at} />
          {alert.site_id !== null && <> · <Leads to={`/f/${slug}/sites/${alert.site_id}`}>the site</Leads></>}
          {alert.run_id !== null && <> · <Leads to={`/f/${slug}/runs/${alert.run_id}`}>the run</Leads></>}
          {alert.resolved_at !== null && <> · over <Ago at={alert.resolved_at} /></>}
          {alert.acknowledged_at !== null && (
            <> · acknowledged by {alert.acknowledged_by ?? "somebody"} <Ago at={alert.acknowledged_at} /></>
          )}
        </Text>
      </div>
      {isOpen && may && (
        <Button size="xs" variant="default" flex="none" loading={action.isPending} onClick={() => action.mutate()}>
          Acknowledge
        </Button>
      )}
    </li>
  );
}

function Leads({ to, children }: { to: string; children: string }) {
  return (
    <Anchor component={Link} to={to} inherit underline="always">
      {children}
    </Anchor>
  );
}
