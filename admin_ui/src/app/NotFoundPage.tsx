import { Anchor } from "@mantine/core";
import { IconMap2 } from "@tabler/icons-react";
import { Link } from "react-router";

import { EmptyState } from "@/components/EmptyState";

export function NotFoundPage() {
  return (
    <EmptyState icon={IconMap2} title="There is no such page">
      The address may be mistyped, or what it was about is gone. <Anchor component={Link} to="/" underline="always">All federations</Anchor>
    </EmptyState>
  );
}
