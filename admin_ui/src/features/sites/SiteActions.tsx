import { useQueryClient } from "@tanstack/react-query";

import type { Site } from "@/api/types";
import { ConfirmButton } from "@/components/actions";
import type { Change } from "@/features/sites/sites";
import { changeSite, noteSite } from "@/features/sites/sites";

/** What can be done with a site that was let in once. */
export function SiteActions({ slug, site }: { slug: string; site: Site }) {
  const queryClient = useQueryClient();
  const run = (change: Change) => async (reason: string) =>
    noteSite(queryClient, slug, await changeSite(slug, site.id, change, reason));
  return (
    <>
      {site.state === "active" && (
        <ConfirmButton
          label="Suspend"
          title={`Suspend ${site.name}?`}
          reason
          run={run("suspend")}
          done={`${site.name} is suspended`}
        >
          The hub refuses it from its next request on, until it is reinstated. Its tasks in open rounds are given up;
          what it has contributed stays.
        </ConfirmButton>
      )}
      {site.state === "suspended" && (
        <ConfirmButton
          label="Reinstate"
          title={`Reinstate ${site.name}?`}
          variant="filled"
          reason
          run={run("reinstate")}
          done={`${site.name} is active again`}
        >
          It may take part again, with the key that it had.
        </ConfirmButton>
      )}
      {(site.state === "active" || site.state === "suspended") && (
        <ConfirmButton
          label="Revoke"
          title={`Revoke ${site.name}?`}
          colour="red"
          variant="light"
          reason
          typed={site.name}
          run={run("revoke")}
          done={`${site.name} is revoked`}
        >
          The hub refuses it for ever, its key and its name with it. This cannot be undone. What it has contributed
          stays in the models and in the receipts.
        </ConfirmButton>
      )}
    </>
  );
}
