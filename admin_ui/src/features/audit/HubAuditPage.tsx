import { PageHeader } from "@/components/PageHeader";
import { AuditLog } from "@/features/audit/AuditLog";
import { ExportButton } from "@/features/audit/ExportButton";
import { useUser } from "@/features/session/session";

export function HubAuditPage() {
  const user = useUser();
  return (
    <>
      <PageHeader
        title="Hub's audit log"
        text="Accounts, API tokens and who signed in, from where. What happens in a federation is in its own log."
        actions={user.is_admin && <ExportButton log={null} />}
      />
      <AuditLog log={null} />
    </>
  );
}
