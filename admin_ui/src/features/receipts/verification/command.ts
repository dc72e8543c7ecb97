import type { Trust } from "@/features/receipts/verification/trust";

/** Returns the command that checks all of a run, with the keys that are known. */
export function verifyCommand(federation: string, runId: string, trust?: Trust): string {
  const hub = [...(trust?.hubKeys ?? [])].map((key) => `--hub-key ${key}`);
  const sites = [...(trust?.siteKeys ?? [])].flatMap(([name, keys]) => [...keys].map((key) => `--site-key ${name}=${key}`));
  return [`hansa verify ${runId} --federation ${federation}`, ...hub, ...sites].join(" \\\n  ");
}
