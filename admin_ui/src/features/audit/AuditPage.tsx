import { PageHeader } from "@/components/PageHeader";
import { AuditLog } from "@/features/audit/AuditLog";
import { ExportButton } from "@/features/audit/ExportButton";
import { useMay, useSlug } from "@/features/federations/federations";

export function AuditPage() {
  const slug = useSlug();
  const mayAudit = useMay("audit");
  return (
    <>
      <PageHeader
        title="Audit"
        text="Who did what in this federation, from where. The log only grows, and each entry is chained to the one before."
        actions={mayAudit && <ExportButton log={slug} />}
      />
      <AuditLog log={slug} />
    </>
  );
}
