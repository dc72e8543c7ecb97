import { Anchor, Text } from "@mantine/core";
import { useQuery } from "@tanstack/react-query";
import { Link } from "react-router";

import type { Event } from "@/api/types";
import { Panel } from "@/components/Panel";
import { QueryView } from "@/components/QueryView";
import { Ago } from "@/components/values";
import { isDetail, pathOf, subjectOf, titleOf } from "@/features/federations/activity";
import classes from "@/features/sites/SiteEvents.module.css";
import { siteEventsQuery } from "@/features/sites/sites";

const SHOWN = 12;

/** What happened to a site of late. */
export function SiteEvents({ slug, siteId }: { slug: string; siteId: string }) {
  const events = useQuery(siteEventsQuery(slug, siteId));
  return (
    <Panel title="Recent events">
      <QueryView query={events} rows={5}>
        {(all) => {
          const found = all.filter((event) => !isDetail(event)); // the tasks are listed beside
          return found.length === 0 ? (
            <Text size="sm" c="dimmed">
              Nothing but its tasks of late.
            </Text>
          ) : (
            <ol className={classes.events}>
              {found.slice(0, SHOWN).map((event) => (
                <Item key={event.id} slug={slug} event={event} />
              ))}
            </ol>
          );
        }}
      </QueryView>
    </Panel>
  );
}

function Item({ slug, event }: { slug: string; event: Event }) {
  const path = event.run_id === null ? null : pathOf(event);
  const data = { ...event.data, site: null, site_name: null }; // whose page this is
  return (
    <li className={classes.event}>
      <span>
        {path === null ? (
          titleOf(event)
        ) : (
          <Anchor component={Link} to={`/f/${slug}/${path}`} inherit>
            {titleOf(event)}
          </Anchor>
        )}
        <Text span size="xs" c="dimmed" className={classes.subject ?? ""}>
          {subjectOf({ ...event, data })}
        </Text>
      </span>
      <Text span size="xs" c="dimmed" className={classes.ago ?? ""}>
        <Ago at={event.at} />
      </Text>
    </li>
  );
}
