import type { Site } from "@/api/types";
import { Ago } from "@/components/values";
import { isOnline } from "@/features/sites/filters";
import classes from "@/features/sites/parts.module.css";

/** Whether a site is there, and if not, when it was last; alone it says what the time means. */
export function Presence({ site, isAlone = false }: { site: Site; isAlone?: boolean }) {
  const online = isOnline(site);
  return (
    <span className={classes.online}>
      <span className={classes.dot} data-online={online} aria-hidden />
      {online ? (
        "online"
      ) : (
        <span>
          {isAlone && site.last_seen_at !== null && "last seen "}
          <Ago at={site.last_seen_at} never="never seen" />
        </span>
      )}
    </span>
  );
}
