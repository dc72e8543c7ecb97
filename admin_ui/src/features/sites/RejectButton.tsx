import { useQueryClient } from "@tanstack/react-query";

import type { Site } from "@/api/types";
import { ConfirmButton } from "@/components/actions";
import { changeSite, noteSite } from "@/features/sites/sites";

interface Props {
  slug: string;
  site: Site;
  size?: "xs" | "sm";
  after?: () => void;
}

/** Turns a site away that awaits approval. */
export function RejectButton({ slug, site, size = "sm", after }: Props) {
  const queryClient = useQueryClient();
  return (
    <ConfirmButton
      label="Reject"
      title={`Reject ${site.name}?`}
      colour="red"
      variant="subtle"
      size={size}
      reason
      run={async (reason) => noteSite(queryClient, slug, await changeSite(slug, site.id, "revoke", reason))}
      done={`${site.name} was rejected`}
      {...(after ? { after } : {})}
    >
      Its key and its name are refused for ever. To come after all it has to enrol anew, with another name in another
      folder.
    </ConfirmButton>
  );
}
