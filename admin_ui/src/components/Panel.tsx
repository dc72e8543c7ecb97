import { Box, Group, Title } from "@mantine/core";
import type { BoxProps } from "@mantine/core";
import type { ReactNode } from "react";

interface Props extends BoxProps {
  title?: string;
  aside?: ReactNode; // to the right of the title
  children: ReactNode;
}

/** A part of a page with a heading of its own. */
export function Panel({ title, aside, children, ...box }: Props) {
  return (
    <Box component="section" className="panel" p="md" {...(title ? { "aria-label": title } : {})} {...box}>
      {(title !== undefined || aside !== undefined) && (
        <Group justify="space-between" mb="sm" gap="xs">
          {title !== undefined && <Title order={2}>{title}</Title>}
          {aside}
        </Group>
      )}
      {children}
    </Box>
  );
}
