import { Stack, Text, ThemeIcon, Title } from "@mantine/core";
import type { TablerIcon } from "@tabler/icons-react";
import type { ReactNode } from "react";

import { Command } from "@/components/Command";

interface Props {
  icon: TablerIcon;
  title: string;
  children?: ReactNode; // the next step, in a sentence or two
  command?: string; // and exactly how
  action?: ReactNode;
}

/** What is shown where nothing is yet: what it would be, and the next step. */
export function EmptyState({ icon: Icon, title, children, command, action }: Props) {
  return (
    <Stack align="center" gap="sm" py={48} px="md" className="panel">
      <ThemeIcon size={52} radius="xl" variant="light">
        <Icon size={26} stroke={1.6} aria-hidden />
      </ThemeIcon>
      <Title order={2} ta="center">
        {title}
      </Title>
      {children && (
        <Text c="dimmed" ta="center" maw={560} component="div">
          {children}
        </Text>
      )}
      {command && <Command text={command} w="min(100%, 640px)" />}
      {action}
    </Stack>
  );
}
