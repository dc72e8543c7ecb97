import { Anchor, Breadcrumbs, Group, Stack, Text, Title } from "@mantine/core";
import { useDocumentTitle } from "@mantine/hooks";
import type { ReactNode } from "react";
import { Link } from "react-router";

interface Props {
  title: string;
  badge?: ReactNode;
  text?: ReactNode; // a line below the title
  parents?: { label: string; to: string }[];
  actions?: ReactNode;
}

/** The page's one heading, where it lies, and what can be done. */
export function PageHeader({ title, badge, text, parents = [], actions }: Props) {
  useDocumentTitle(`${title} · Hansa`);
  return (
    <Group justify="space-between" align="flex-start" gap="md" mb="lg">
      <Stack gap={4} style={{ minWidth: 0, flex: "1 1 320px" }}>
        {parents.length > 0 && (
          <Breadcrumbs separatorMargin={6} fz="sm">
            {parents.map((parent) => (
              <Anchor key={parent.to} component={Link} to={parent.to} size="sm">
                {parent.label}
              </Anchor>
            ))}
          </Breadcrumbs>
        )}
        <Group gap="sm">
          <Title order={1} style={{ overflowWrap: "anywhere" }}>
            {title}
          </Title>
          {badge}
        </Group>
        {text && (
          <Text c="dimmed" size="sm" component="div">
            {text}
          </Text>
        )}
      </Stack>
      {actions && <Group gap="xs">{actions}</Group>}
    </Group>
  );
}
