/** A site's policy in words: what its operator lets it do, and lets it tell. */
import type { Schema } from "@/api/types";
import { humane, plural } from "@/format/words";

export type SitePolicy = Schema<"SitePolicy">;

const PEERS: Record<string, string> = {
  "first-use": "Trusts another site's key as it is first seen, and refuses a changed one.",
  pinned: "Trusts the keys that its operator pinned, and no others.",
  consortium: "Trusts the sites on the list that its consortium signed.",
  unreadable: "Its record of other sites' keys is damaged, so it refuses secure rounds.",
};

const FEATURES: Record<string, string> = {
  "local-work": "local corrections",
  "tensor-groups": "tensor groups",
  codecs: "encoded updates",
  "secure-aggregation": "secure aggregation",
};

/** Returns what the policy means, a sentence for each of its fields. */
export function policyInWords(policy: SitePolicy): string[] {
  return [
    policy.secure_only
      ? "Takes part in secure runs alone: the hub never reads its updates."
      : "Takes part in runs without secure aggregation, in which the hub can read its updates.",
    ...(policy.least_sum == null
      ? []
      : [`Refuses secure rounds whose sum may be of fewer than ${plural(policy.least_sum, "update")}.`]),
    PEERS[policy.peers] ?? `Trusts other sites by its mode “${policy.peers}”.`,
    policy.tracebacks === "none"
      ? "Tells of a failure its type alone; message and traceback stay at the site."
      : "Tells of a failure its message and traceback.",
    policy.share_log === 0
      ? "Tells no log lines."
      : `Tells with a failure the last ${plural(policy.share_log, "line")} of its log.`,
  ];
}

/** Returns what the site's SDK can do beyond plain training. */
export function featuresInWords(features: readonly string[]): string[] {
  return features.map((feature) => FEATURES[feature] ?? humane(feature).toLowerCase());
}
