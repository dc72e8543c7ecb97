import { Badge, Button, Group, Modal, Stack, Switch, Text } from "@mantine/core";
import { useDisclosure } from "@mantine/hooks";
import { IconPlus, IconUsers } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";

import { keys } from "@/api/keys";
import { useListing } from "@/api/paging";
import type { User } from "@/api/types";
import type { Column } from "@/components/DataTable";
import { DataTable } from "@/components/DataTable";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { ConfirmButton, useAction } from "@/components/actions";
import { Ago } from "@/components/values";
import { NewPasswordForm, NewPersonForm } from "@/features/people/PersonForms";
import { changePerson, people } from "@/features/people/people";
import { useUser } from "@/features/session/session";

export function PeoplePage() {
  const me = useUser();
  const queryClient = useQueryClient();
  const listed = useListing(people);
  const [opened, { open, close }] = useDisclosure(false);
  const changed = () => queryClient.invalidateQueries({ queryKey: keys.people });
  const add = (
    <Button leftSection={<IconPlus size={16} aria-hidden />} onClick={open}>
      New account
    </Button>
  );
  return (
    <>
      <PageHeader
        title="People"
        text="Accounts of this hub. What somebody may do in a federation, its members page says."
        actions={add}
      />
      <Modal opened={opened} onClose={close} title={<Text fw={640}>New account</Text>}>
        <NewPersonForm
          done={() => {
            close();
            void changed();
          }}
        />
      </Modal>
      {listed.error !== null && listed.items.length === 0 ? (
        <Problem error={listed.error} retry={listed.refetch} />
      ) : listed.isPending ? (
        <Loading />
      ) : listed.items.length === 0 ? (
        <EmptyState icon={IconUsers} title="Nobody has an account" action={add} />
      ) : (
        <DataTable
          label="People"
          rows={listed.items}
          rowKey={(person) => person.id}
          columns={columns(me, changed)}
          sorting={{ key: "name", descending: false }}
        />
      )}
    </>
  );
}

function columns(me: User, changed: () => Promise<unknown>): Column<User>[] {
  return [
    {
      key: "name",
      header: "Name",
      width: "minmax(150px, 2fr)",
      isTitle: true,
      sortBy: (person) => person.name,
      cell: (person) => (
        <Group gap={8}>
          {person.name}
          {person.id === me.id && <Badge variant="light" color="gray" tt="none" fw={520}>you</Badge>}
          {person.disabled_at != null && <Badge variant="light" color="orange" tt="none" fw={520}>disabled</Badge>}
        </Group>
      ),
    },
    {
      key: "email",
      header: "E-mail",
      width: "minmax(170px, 2fr)",
      sortBy: (person) => person.email,
      cell: (person) => person.email,
    },
    { key: "since", header: "Since", width: "110px", sortBy: (person) => person.created_at, cell: (person) => <Ago at={person.created_at} /> },
    {
      key: "admin",
      header: "Administrator",
      width: "120px",
      sortBy: (person) => (person.is_admin ? 0 : 1),
      cell: (person) => <AdminSwitch person={person} isMe={person.id === me.id} changed={changed} />,
    },
    {
      key: "actions",
      header: "Actions",
      hideHeader: true,
      width: "230px",
      align: "end",
      cell: (person) => <Actions person={person} isMe={person.id === me.id} changed={changed} />,
    },
  ];
}

interface PersonProps {
  person: User;
  isMe: boolean;
  changed: () => Promise<unknown>;
}

function AdminSwitch({ person, isMe, changed }: PersonProps) {
  const action = useAction<boolean>({
    run: (isAdmin) => changePerson(person.id, { is_admin: isAdmin }),
    after: changed,
  });
  if (isMe) return <span>yes</span>;
  return (
    <Switch
      aria-label={`${person.name} is an administrator`}
      checked={person.is_admin}
      disabled={action.isPending}
      onChange={(event) => action.mutate(event.currentTarget.checked)}
    />
  );
}

function Actions({ person, isMe, changed }: PersonProps) {
  const [opened, { open, close }] = useDisclosure(false);
  const isDisabled = person.disabled_at != null;
  return (
    <Group gap={4} justify="flex-end" wrap="nowrap">
      <Button size="xs" variant="subtle" onClick={open}>
        New password
      </Button>
      <Modal opened={opened} onClose={close} title={<Text fw={640}>New password for {person.name}</Text>}>
        <Stack>
          <NewPasswordForm person={person} done={close} />
        </Stack>
      </Modal>
      {!isMe && (
        <ConfirmButton
          label={isDisabled ? "Enable" : "Disable"}
          size="xs"
          variant="subtle"
          {...(isDisabled ? {} : { colour: "red" })}
          title={`${isDisabled ? "Enable" : "Disable"} ${person.name}?`}
          run={() => changePerson(person.id, { disabled: !isDisabled })}
          after={changed}
        >
          {isDisabled
            ? "They can sign in again, with the password that they had."
            : "Their sessions and tokens end at once. What they did stays in the audit log."}
        </ConfirmButton>
      )}
    </Group>
  );
}
