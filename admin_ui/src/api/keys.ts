/**
 * The roots of all query keys. What an event is about is what it makes stale, so a federation's
 * keys begin with its slug and a domain, and a run's own data with the run.
 */
export const keys = {
  session: ["session"] as const,
  hub: ["hub"] as const,
  deployment: ["deployment"] as const,
  people: ["people"] as const,
  tokens: ["tokens"] as const,
  hubAudit: ["hub-audit"] as const,
  planSchema: ["plan-schema"] as const,
  overviews: ["overviews"] as const,
  federation: (slug: string) => ["federation", slug] as const,
  domain: (slug: string, domain: Domain) => ["federation", slug, domain] as const,
  run: (slug: string, runId: string) => ["federation", slug, "run", runId] as const,
  site: (slug: string, siteId: string) => ["federation", slug, "sites", siteId] as const,
};

export type Domain =
  | "overview"
  | "sites"
  | "invitations"
  | "members"
  | "runs"
  | "models"
  | "alerts"
  | "channels"
  | "audit"
  | "events";
