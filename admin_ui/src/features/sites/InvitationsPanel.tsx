import { Button, Group, Progress, Stack, Text } from "@mantine/core";
import { IconMail, IconPlus } from "@tabler/icons-react";
import { useQueryClient } from "@tanstack/react-query";
import { Link, useSearchParams } from "react-router";

import { keys } from "@/api/keys";
import { useListing } from "@/api/paging";
import type { Column } from "@/components/DataTable";
import { DataTable } from "@/components/DataTable";
import { EmptyState } from "@/components/EmptyState";
import { Problem } from "@/components/Problem";
import { Loading } from "@/components/QueryView";
import { StateBadge } from "@/components/StateBadge";
import { ConfirmButton } from "@/components/actions";
import { Ago, Digest, useNow } from "@/components/values";
import { useMay } from "@/features/federations/federations";
import { FilterLinks, replaced } from "@/features/sites/FilterLinks";
import { LabelChips } from "@/features/sites/LabelChips";
import { STANDINGS, standingOf } from "@/features/sites/invitations";
import type { Invitation } from "@/features/sites/sites";
import { invitationsListing, revokeInvitation } from "@/features/sites/sites";

/** The invitations of a federation: those that still let sites in, and on demand those of before. */
export function InvitationsPanel({ slug }: { slug: string }) {
  const [search] = useSearchParams();
  const mayEnroll = useMay("enroll");
  const now = useNow();
  const listed = useListing(invitationsListing(slug));
  if (listed.error !== null && listed.items.length === 0) return <Problem error={listed.error} retry={listed.refetch} />;
  if (listed.isPending) return <Loading rows={5} />;
  const open = listed.items.filter((invitation) => standingOf(invitation, now) === "open");
  const showsAll = search.get("show") === "all";
  const shown = showsAll ? listed.items : open;
  return (
    <Stack gap="md">
      {listed.items.length > open.length && (
        <FilterLinks
          label="Invitations by standing"
          links={[
            { label: "Open", search: replaced(search, { show: null }), count: open.length, selected: !showsAll },
            { label: "All", search: replaced(search, { show: "all" }), count: listed.items.length, selected: showsAll },
          ]}
        />
      )}
      {shown.length === 0 ? (
        <EmptyState
          icon={IconMail}
          title="No invitation is open"
          command={`hansa invitation create --federation ${slug} --uses 1`}
          action={
            mayEnroll ? (
              <Button
                component={Link}
                to={`/f/${slug}/sites/enrol`}
                leftSection={<IconPlus size={16} aria-hidden />}
              >
                Invite a site
              </Button>
            ) : null
          }
        >
          An invitation is a command that a site&apos;s operator pastes. It lets one site or several enrol until it
          expires.
        </EmptyState>
      ) : (
        <DataTable
          label="Invitations"
          rows={shown}
          columns={columns(slug, now, mayEnroll)}
          rowKey={(invitation) => invitation.id}
        />
      )}
    </Stack>
  );
}

function columns(slug: string, now: Date, mayEnroll: boolean): Column<Invitation>[] {
  return [
    {
      key: "id",
      header: "Invitation",
      isTitle: true,
      width: "minmax(140px, 1fr)",
      cell: ({ id }) => <Digest value={id} name="invitation's id" characters={13} />,
    },
    {
      key: "standing",
      header: "State",
      width: "100px",
      cell: (invitation) => <StateBadge look={STANDINGS[standingOf(invitation, now)]} />,
    },
    {
      key: "uses",
      header: "Sites that came",
      width: "minmax(120px, 1fr)",
      sortBy: ({ uses }) => uses,
      cell: ({ uses, max_uses }) => (
        <Group gap="xs" wrap="nowrap" className="numbers">
          <Progress value={(100 * uses) / max_uses} w={56} aria-label={`${uses} of ${max_uses} sites came`} />
          {`${uses} of ${max_uses}`}
        </Group>
      ),
    },
    {
      key: "labels",
      header: "Labels it gives",
      width: "minmax(120px, 1.4fr)",
      cell: ({ labels }) => <LabelChips labels={labels} />,
    },
    { key: "created", header: "Made", width: "110px", sortBy: ({ created_at }) => created_at, cell: ({ created_at }) => <Ago at={created_at} /> },
    { key: "expires", header: "Expires", width: "110px", sortBy: ({ expires_at }) => expires_at, cell: ({ expires_at }) => <Ago at={expires_at} /> },
    ...(mayEnroll
      ? [
          {
            key: "actions",
            header: "Actions",
            hideHeader: true,
            align: "end" as const,
            width: "150px",
            cell: (invitation: Invitation) =>
              standingOf(invitation, now) === "open" ? <InvitationActions slug={slug} invitation={invitation} /> : null,
          },
        ]
      : []),
  ];
}

function InvitationActions({ slug, invitation }: { slug: string; invitation: Invitation }) {
  const queryClient = useQueryClient();
  return (
    <Group gap={4} wrap="nowrap" justify="flex-end">
      <Button
        component={Link}
        to={`/f/${slug}/sites/enrol?invitation=${invitation.id}`}
        size="xs"
        variant="subtle"
        aria-label={`Watch invitation ${invitation.id}`}
      >
        Watch
      </Button>
      <ConfirmButton
        label="Revoke"
        title="Revoke this invitation?"
        size="xs"
        variant="subtle"
        colour="red"
        run={() => revokeInvitation(slug, invitation.id)}
        done="The invitation is revoked"
        after={() => queryClient.invalidateQueries({ queryKey: keys.domain(slug, "invitations") })}
      >
        <Text size="sm">No site can enrol with it any more. Sites that came with it stay.</Text>
      </ConfirmButton>
    </Group>
  );
}
