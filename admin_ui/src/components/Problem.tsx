import { Alert, Button, List, Text } from "@mantine/core";
import { IconAlertTriangle, IconPlugConnectedX } from "@tabler/icons-react";

import { UnreachableError, describe } from "@/api/problems";

/** An error where the thing would have been: the problem's title, its detail, its wrong fields. */
export function Problem({ error, retry }: { error: unknown; retry?: () => void }) {
  const { title, detail, fields } = describe(error);
  const Icon = error instanceof UnreachableError ? IconPlugConnectedX : IconAlertTriangle;
  return (
    <Alert color="red" title={title} icon={<Icon size={18} />} role="alert">
      <Text size="sm">{detail}</Text>
      {fields.length > 0 && (
        <List size="sm" mt="xs">
          {fields.map((field) => (
            <List.Item key={`${field.path} ${field.message}`}>
              <span className="mono">{field.path}</span>: {field.message}
            </List.Item>
          ))}
        </List>
      )}
      {retry && (
        <Button size="xs" variant="light" color="red" mt="sm" onClick={retry}>
          Try again
        </Button>
      )}
    </Alert>
  );
}
