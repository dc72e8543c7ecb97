import { Badge } from "@mantine/core";

import classes from "@/components/StateBadge.module.css";
import type { StateLook } from "@/components/states";

/** A state as a word on its colour; the dot moves while something is going on. */
export function StateBadge({ look, size = "sm" }: { look: StateLook; size?: "xs" | "sm" | "lg" }) {
  return (
    <Badge
      variant="light"
      color={look.colour}
      size={size}
      radius="sm"
      className={classes.badge}
      leftSection={<span className={look.isBusy ? classes.busy : classes.dot} aria-hidden />}
    >
      {look.label}
    </Badge>
  );
}
