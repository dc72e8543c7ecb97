import { Alert, Badge, Button, Checkbox, Group, Modal, NumberInput, Stack, Text, TextInput } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconKey, IconPlus } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { keys } from "@/api/keys";
import { hubUrl } from "@/api/location";
import { useListing } from "@/api/paging";
import { Command } from "@/components/Command";
import type { Column } from "@/components/DataTable";
import { DataTable } from "@/components/DataTable";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { ConfirmButton, useAction } from "@/components/actions";
import { Ago } from "@/components/values";
import type { NewToken, Scope, Token } from "@/features/tokens/tokens";
import { SCOPES, createToken, revokeToken, tokens } from "@/features/tokens/tokens";

export function TokensPage() {
  const queryClient = useQueryClient();
  const listed = useListing(tokens);
  const [opened, { open, close }] = useDisclosure(false);
  const [created, setCreated] = useState<NewToken | null>(null); // its secret is shown once
  const changed = () => queryClient.invalidateQueries({ queryKey: keys.tokens });
  const add = (
    <Button leftSection={<IconPlus size={16} aria-hidden />} onClick={open}>
      New token
    </Button>
  );
  return (
    <>
      <PageHeader
        title="API tokens"
        text="For programs and command lines that act as you, with no more than their scopes."
        actions={add}
      />
      <Modal opened={opened} onClose={close} title={<Text fw={640}>New API token</Text>}>
        <NewTokenForm
          done={(token) => {
            setCreated(token);
            close();
            void changed();
          }}
        />
      </Modal>
      <Stack gap="md">
        {created && (
          <Alert
            color="yellow"
            icon={<IconKey size={18} />}
            title={`The token ${created.name}, shown this once`}
            withCloseButton
            closeButtonLabel="It is stored"
            onClose={() => setCreated(null)}
          >
            <Stack gap="xs">
              <Command text={created.token} label="Copy the token" />
              <Text size="sm">Try it:</Text>
              <Command text={`curl -H "Authorization: Bearer ${created.token}" ${hubUrl}/v1/federations`} />
            </Stack>
          </Alert>
        )}
        {listed.error !== null && listed.items.length === 0 ? (
          <Problem error={listed.error} retry={listed.refetch} />
        ) : listed.isPending ? (
          <Loading />
        ) : listed.items.length === 0 ? (
          <EmptyState icon={IconKey} title="No API token yet" action={add}>
            A token lets a notebook, a script or a pipeline use the REST API without your password.
          </EmptyState>
        ) : (
          <DataTable
            label="API tokens"
            rows={listed.items}
            rowKey={(token) => token.id}
            columns={columns(changed)}
            sorting={{ key: "created", descending: true }}
          />
        )}
      </Stack>
    </>
  );
}

function columns(changed: () => Promise<unknown>): Column<Token>[] {
  return [
    {
      key: "name",
      header: "Name",
      width: "minmax(140px, 2fr)",
      isTitle: true,
      sortBy: (token) => token.name,
      cell: (token) => token.name,
    },
    {
      key: "scopes",
      header: "Scopes",
      width: "minmax(140px, 2fr)",
      cell: (token) => (
        <Group gap={5}>
          {token.scopes.map((scope) => (
            <Badge key={scope} variant="light" color="gray" tt="none" fw={520}>
              {scope}
            </Badge>
          ))}
        </Group>
      ),
    },
    {
      key: "used",
      header: "Last used",
      width: "120px",
      sortBy: (token) => token.last_used_at,
      cell: (token) => <Ago at={token.last_used_at} />,
    },
    {
      key: "created",
      header: "Created",
      width: "120px",
      sortBy: (token) => token.created_at,
      cell: (token) => <Ago at={token.created_at} />,
    },
    {
      key: "expires",
      header: "Expires",
      width: "130px",
      sortBy: (token) => token.expires_at,
      cell: (token) => <Ago at={token.expires_at} />,
    },
    {
      key: "revoke",
      header: "Revoke",
      hideHeader: true,
      width: "110px",
      align: "end",
      cell: (token) => (
        <ConfirmButton
          label="Revoke"
          size="xs"
          variant="subtle"
          colour="red"
          title={`Revoke ${token.name}?`}
          run={() => revokeToken(token.id)}
          done={`${token.name} is revoked`}
          after={changed}
        >
          Whatever uses it is refused from now on.
        </ConfirmButton>
      ),
    },
  ];
}

function NewTokenForm({ done }: { done: (token: NewToken) => void }) {
  const [name, setName] = useState("");
  const [scopes, setScopes] = useState<Scope[]>(["read"]);
  const [days, setDays] = useState(90);
  const action = useAction({
    run: () => createToken({ name, scopes, expires_days: days }),
    quiet: true,
    after: done,
  });
  return (
    <form
      onSubmit={(event) => {
        event.preventDefault();
        action.mutate();
      }}
    >
      <Stack>
        <TextInput
          label="Name"
          description="What it is for, so that you know what breaks when you revoke it."
          required
          maxLength={200}
          data-autofocus
          value={name}
          onChange={(event) => setName(event.currentTarget.value)}
        />
        <Checkbox.Group
          label="Scopes"
          value={scopes}
          onChange={(values) => setScopes((Object.keys(SCOPES) as Scope[]).filter((scope) => values.includes(scope)))}
        >
          <Stack gap={8} mt={6}>
            {Object.entries(SCOPES).map(([scope, told]) => (
              <Checkbox key={scope} value={scope} label={scope} description={told} />
            ))}
          </Stack>
        </Checkbox.Group>
        <NumberInput
          label="Expires after"
          suffix=" days"
          min={1}
          max={3650}
          value={days}
          onChange={(value) => {
            if (typeof value === "number") setDays(value);
          }}
        />
        {action.isError && <Problem error={action.error} />}
        <Button type="submit" loading={action.isPending} disabled={scopes.length === 0}>
          Create token
        </Button>
      </Stack>
    </form>
  );
}
