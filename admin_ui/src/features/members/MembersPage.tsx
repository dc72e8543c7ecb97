import { Button, Group, Select, Stack, Text, TextInput } from "@mantine/core";
import { IconUsers } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { useState } from "react";

import { keys } from "@/api/keys";
import { useListing } from "@/api/paging";
import type { Column } from "@/components/DataTable";
import { DataTable } from "@/components/DataTable";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import { Panel } from "@/components/Panel";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { ConfirmButton, useAction } from "@/components/actions";
import { Ago } from "@/components/values";
import { useMay, useSlug } from "@/features/federations/federations";
import type { Member, Role } from "@/features/members/members";
import { ROLES, members, putMember, removeMember } from "@/features/members/members";
import { useUser } from "@/features/session/session";

const CHOICES = Object.keys(ROLES) as Role[];

export function MembersPage() {
  const slug = useSlug();
  const may = useMay("govern");
  const listed = useListing(members(slug));
  return (
    <>
      <PageHeader title="Members" text="Who may do what in this federation. Administrators of the hub may do everything." />
      <Stack gap="lg">
        {may && <NewMember slug={slug} />}
        {listed.error !== null && listed.items.length === 0 ? (
          <Problem error={listed.error} retry={listed.refetch} />
        ) : listed.isPending ? (
          <Loading />
        ) : listed.items.length === 0 ? (
          <EmptyState
            icon={IconUsers}
            title="Nobody belongs to this federation"
            command={`hansa member set ada@example.org researcher --federation ${slug}`}
          >
            People need an account on the hub first; an administrator makes it under People.
          </EmptyState>
        ) : (
          <DataTable
            label="Members"
            rows={listed.items}
            rowKey={(member) => member.user_id}
            columns={columns(slug, may)}
            sorting={{ key: "name", descending: false }}
          />
        )}
        <Roles />
      </Stack>
    </>
  );
}

function columns(slug: string, may: boolean): Column<Member>[] {
  return [
    {
      key: "name",
      header: "Name",
      width: "minmax(140px, 2fr)",
      isTitle: true,
      sortBy: (member) => member.name,
      cell: (member) => member.name,
    },
    { key: "email", header: "E-mail", width: "minmax(160px, 2fr)", sortBy: (member) => member.email, cell: (member) => member.email },
    {
      key: "role",
      header: "Role",
      width: "170px",
      sortBy: (member) => member.role,
      cell: (member) => (may ? <RoleChoice slug={slug} member={member} /> : member.role),
    },
    {
      key: "since",
      header: "Since",
      width: "120px",
      sortBy: (member) => member.created_at,
      cell: (member) => <Ago at={member.created_at} />,
    },
    ...(may
      ? [
          {
            key: "remove",
            header: "Remove",
            hideHeader: true,
            width: "110px",
            align: "end" as const,
            cell: (member: Member) => <Remove slug={slug} member={member} />,
          },
        ]
      : []),
  ];
}

function useChanged(slug: string): () => Promise<void> {
  const queryClient = useQueryClient();
  return () => queryClient.invalidateQueries({ queryKey: keys.domain(slug, "members") });
}

function RoleChoice({ slug, member }: { slug: string; member: Member }) {
  const changed = useChanged(slug);
  const action = useAction<Role, Member>({
    run: (role) => putMember(slug, member.user_id, role),
    done: ({ name, role }) => `${name} is ${role} now`,
    after: changed,
  });
  return (
    <Select
      size="xs"
      aria-label={`Role of ${member.name}`}
      data={CHOICES}
      value={action.variables !== undefined && action.isPending ? action.variables : member.role}
      allowDeselect={false}
      onChange={(role) => {
        if (role !== null && role !== member.role) action.mutate(role);
      }}
    />
  );
}

function Remove({ slug, member }: { slug: string; member: Member }) {
  const changed = useChanged(slug);
  const user = useUser();
  return (
    <ConfirmButton
      label="Remove"
      size="xs"
      variant="subtle"
      colour="red"
      title={`Remove ${member.name}?`}
      run={() => removeMember(slug, member.user_id)}
      done={`${member.name} is no member any more`}
      after={changed}
    >
      {member.user_id === user.id
        ? "You will not see this federation any more."
        : `${member.name} (${member.email}) loses access at once. What they did stays in the audit log.`}
    </ConfirmButton>
  );
}

function NewMember({ slug }: { slug: string }) {
  const changed = useChanged(slug);
  const [email, setEmail] = useState("");
  const [role, setRole] = useState<Role>("researcher");
  const action = useAction({
    run: () => putMember(slug, email.trim(), role),
    done: (member) => `${member.name} is ${member.role} now`,
    quiet: true,
    after: () => {
      setEmail("");
      return changed();
    },
  });
  return (
    <Panel title="Add a member">
      <form
        onSubmit={(event) => {
          event.preventDefault();
          action.mutate();
        }}
      >
        <Group align="flex-end">
          <TextInput
            label="E-mail of an account"
            type="email"
            required
            flex="1 1 240px"
            value={email}
            onChange={(event) => setEmail(event.currentTarget.value)}
          />
          <Select
            label="Role"
            data={CHOICES}
            value={role}
            allowDeselect={false}
            onChange={(value) => {
              if (value !== null) setRole(value);
            }}
          />
          <Button type="submit" loading={action.isPending}>
            Add
          </Button>
        </Group>
        {action.isError && (
          <Stack mt="sm">
            <Problem error={action.error} />
          </Stack>
        )}
      </form>
    </Panel>
  );
}

function Roles() {
  return (
    <Panel title="What the roles may do">
      <Stack gap={4}>
        {CHOICES.map((role) => (
          <Text key={role} size="sm">
            <Text span inherit fw={560}>
              {role}
            </Text>
            : {ROLES[role]}
          </Text>
        ))}
      </Stack>
    </Panel>
  );
}
