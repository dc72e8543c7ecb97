/** The frame of pages about the whole hub. */
import { IconBuildingCommunity, IconHeartbeat, IconHistory, IconKey, IconUsers } from "@tabler/icons-react";

import type { Place } from "@/app/Shell";
import { Shell } from "@/app/Shell";
import { useUser } from "@/features/session/session";

/** Returns the pages about the hub that the person may see. */
export function hubPlaces(isAdmin: boolean): Place[] {
  const all: Place[] = [{ label: "Federations", to: "/", icon: IconBuildingCommunity, end: true }];
  if (isAdmin) {
    all.push(
      { label: "Deployment", to: "/deployment", icon: IconHeartbeat },
      { label: "People", to: "/people", icon: IconUsers },
      { label: "Hub's audit log", to: "/audit", icon: IconHistory },
    );
  }
  all.push({ label: "API tokens", to: "/tokens", icon: IconKey });
  return all;
}

export function HubFrame() {
  const user = useUser();
  return <Shell groups={[{ title: "Hub", places: hubPlaces(user.is_admin) }]} />;
}
