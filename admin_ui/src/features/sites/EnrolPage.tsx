/** Enrolling a site, from the invitation to its first sign of life. Where it stands follows from the hub's data. */
import { Box, Button, Group, Stack, Text } from "@mantine/core";
import { IconChartLine, IconLock, IconPlus, IconServer2 } from "@tabler/icons-react";
import { useQuery } from "@tanstack/react-query";
import { useState } from "react";
import { Link, useSearchParams } from "react-router";

import { useListing } from "@/api/paging";
import type { Site } from "@/api/types";
import { EmptyState } from "@/components/EmptyState";
import { PageHeader } from "@/components/PageHeader";
import { Problem } from "@/components/Problem";
import { Loading, QueryView } from "@/components/QueryView";
import { Ago, useNow } from "@/components/values";
import { overviewQuery, useMay, useSlug } from "@/features/federations/federations";
import { Arrival, Waiting } from "@/features/sites/Arrivals";
import { InvitationForm } from "@/features/sites/InvitationForm";
import { LabelChips } from "@/features/sites/LabelChips";
import { SiteCommands } from "@/features/sites/SiteCommands";
import { Step } from "@/features/sites/Step";
import { standingOf } from "@/features/sites/invitations";
import type { Invitation, NewInvitation } from "@/features/sites/sites";
import { arrivalsQuery, invitationsListing } from "@/features/sites/sites";
import { plural } from "@/format/words";

export function EnrolPage() {
  const slug = useSlug();
  const overview = useQuery(overviewQuery(slug));
  return (
    <>
      <PageHeader
        title="Enrol a site"
        parents={[{ label: "Sites", to: `/f/${slug}/sites` }]}
        text="A site makes its own key and asks to join with an invitation. You let it in once you know that the key is its."
      />
      <QueryView query={overview} rows={6}>
        {({ federation }) =>
          federation.my_actions?.includes("enroll") ? (
            <Box className="panel" p={{ base: "md", sm: "lg" }} maw={940}>
              <Wizard slug={slug} requiresApproval={federation.requires_approval} />
            </Box>
          ) : (
            <EmptyState icon={IconLock} title="Your role does not enrol sites">
              The federation&apos;s owners and operators do. Ask one of them for an invitation.
            </EmptyState>
          )
        }
      </QueryView>
    </>
  );
}

function Wizard({ slug, requiresApproval }: { slug: string; requiresApproval: boolean }) {
  const [search, setSearch] = useSearchParams();
  const [made, setMade] = useState<NewInvitation | null>(null); // with its secret, which is told once
  const invitationId = search.get("invitation");
  if (invitationId === null) {
    return (
      <>
        <Step number={1} title="Make an invitation" stage="now">
          <InvitationForm
            slug={slug}
            made={(invitation) => {
              setMade(invitation);
              setSearch({ invitation: invitation.id });
            }}
          />
        </Step>
        <Step number={2} title="Run three commands at the site" stage="later" />
        <Step number={3} title={requiresApproval ? "Compare fingerprints and approve" : "The site comes"} stage="later" />
        <Step number={4} title="Where to go next" stage="later" />
      </>
    );
  }
  return (
    <Enrolling
      key={invitationId}
      slug={slug}
      invitationId={invitationId}
      secret={made?.id === invitationId ? made : null}
      requiresApproval={requiresApproval}
    />
  );
}

interface EnrollingProps {
  slug: string;
  invitationId: string;
  secret: NewInvitation | null;
  requiresApproval: boolean;
}

function Enrolling({ slug, invitationId, secret, requiresApproval }: EnrollingProps) {
  const now = useNow();
  const invitations = useListing(invitationsListing(slug));
  const arrivals = useQuery(arrivalsQuery(slug, invitationId));
  const invitation = invitations.items.find(({ id }) => id === invitationId) ?? secret;
  if (invitation === null) {
    if (invitations.error !== null) return <Problem error={invitations.error} retry={invitations.refetch} />;
    return invitations.isComplete ? <Unknown slug={slug} /> : <Loading rows={6} />;
  }
  const sites = arrivals.data ?? [];
  const isOpen = standingOf(invitation, now) === "open";
  const isSettled = sites.every((site) => site.state !== "pending") && !isOpen;
  const isIn = sites.some((site) => site.state === "active");
  return (
    <>
      <Step number={1} title="Make an invitation" stage="done" summary={<Summary invitation={invitation} />} />
      <Step
        number={2}
        title="Run three commands at the site"
        stage={sites.length > 0 ? "done" : "now"}
        summary={
          sites.length > 0
            ? plural(sites.length, "site came", "sites came")
            : secret === null && "The commands were shown once, when the invitation was made."
        }
      >
        {secret === null
          ? isOpen && <Another slug={slug} />
          : (isOpen || sites.length === 0) && <SiteCommands invitation={secret} />}
      </Step>
      <Step
        number={3}
        title={requiresApproval ? "Compare fingerprints and approve" : "The site comes"}
        stage={sites.length === 0 ? "later" : isIn && isSettled ? "done" : "now"}
        {...(requiresApproval ? {} : { summary: "This federation lets sites in without approval." })}
      >
        <Stack gap="md" maw={760}>
          {sites.map((site) => (
            <Arrival key={site.id} slug={slug} site={site} />
          ))}
          <Awaited invitation={invitation} sites={sites} now={now} />
          {arrivals.isError && <Problem error={arrivals.error} retry={() => void arrivals.refetch()} />}
        </Stack>
      </Step>
      <Step number={4} title="Where to go next" stage={isIn ? "now" : "later"}>
        {isIn && <Next slug={slug} sites={sites} />}
      </Step>
    </>
  );
}

function Summary({ invitation }: { invitation: Invitation }) {
  return (
    <Group gap="xs">
      <span>
        For {plural(invitation.max_uses, "site")}, expires <Ago at={invitation.expires_at} />
      </span>
      {Object.keys(invitation.labels).length > 0 && <LabelChips labels={invitation.labels} />}
    </Group>
  );
}

/** What is still to come with an invitation. */
function Awaited({ invitation, sites, now }: { invitation: Invitation; sites: Site[]; now: Date }) {
  const standing = standingOf(invitation, now);
  const left = invitation.max_uses - invitation.uses;
  if (standing === "open") {
    return sites.length === 0 ? (
      <Waiting title="Waiting for the site…">
        It shows up here by itself as soon as the second command has run. You may leave this page: it is then among the
        sites that await approval.
      </Waiting>
    ) : (
      <Waiting title={`Waiting for ${plural(left, "more site")}…`}>
        {invitation.uses} of {invitation.max_uses} came so far.
      </Waiting>
    );
  }
  if (sites.length > 0 || standing === "used") return null;
  return (
    <Text size="sm">
      The invitation {standing === "revoked" ? "was revoked" : "has expired"} before a site came with it.
    </Text>
  );
}

function Another({ slug }: { slug: string }) {
  return (
    <Button component={Link} to={`/f/${slug}/sites/enrol`} variant="default" size="xs">
      Make another invitation
    </Button>
  );
}

function Unknown({ slug }: { slug: string }) {
  return (
    <EmptyState icon={IconServer2} title="There is no such invitation" action={<Another slug={slug} />}>
      The address may be mistyped.
    </EmptyState>
  );
}

function Next({ slug, sites }: { slug: string; sites: Site[] }) {
  const mayRun = useMay("run");
  const first = sites.find((site) => site.state === "active");
  return (
    <Group gap="xs">
      {mayRun && (
        <Button component={Link} to={`/f/${slug}/runs/new`} leftSection={<IconChartLine size={16} aria-hidden />}>
          New run
        </Button>
      )}
      {first && (
        <Button
          component={Link}
          to={`/f/${slug}/sites/${first.id}`}
          variant="default"
          leftSection={<IconServer2 size={16} aria-hidden />}
        >
          Open {first.name}
        </Button>
      )}
      <Button
        component={Link}
        to={`/f/${slug}/sites/enrol`}
        variant="default"
        leftSection={<IconPlus size={16} aria-hidden />}
      >
        Enrol another site
      </Button>
    </Group>
  );
}
