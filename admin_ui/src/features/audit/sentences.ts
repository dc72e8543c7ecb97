/** Audit entries as sentences: who did what. */
import type { AuditEntry } from "@/features/audit/audit";
import { formatBytes } from "@/format/sizes";
import { humane, plural, shortId } from "@/format/words";

type Data = AuditEntry["data"];

/** What an action does, after the name of who did it. */
const DEEDS: Record<string, (data: Data) => string> = {
  "federation.created": (data) => `founded the federation ${named(data, "name")}`,
  "federation.changed": (data) => `changed the federation: ${changed(data)}`,
  "member.changed": (data) => `gave ${named(data, "email")} the role ${named(data, "role")}`,
  "member.removed": (data) => `took the membership from ${named(data, "email", "user_id")}`,
  "invitation.created": (data) => `made an invitation for ${counted(data, "max_uses", "site")}`,
  "invitation.revoked": (data) => `revoked invitation ${id(data, "invitation_id")}`,
  "site.enrolled": (data) => `enrolled with key ${named(data, "fingerprint")}`,
  "site.approved": (data) => `let the site ${named(data, "site")} in`,
  "site.rejected": (data) => `turned the site ${named(data, "site")} away`,
  "site.suspended": (data) => `suspended the site ${named(data, "site")}`,
  "site.reinstated": (data) => `let the site ${named(data, "site")} work again`,
  "site.revoked": (data) => `revoked the site ${named(data, "site")} for good`,
  "site.labelled": (data) => `labelled the site ${named(data, "site")}`,
  "site.key_rotated": (data) => `took a new key, ${named(data, "fingerprint")}`,
  "model.created": (data) => `created the model ${named(data, "model")}`,
  "checkpoint.created": (data) => `made an uploaded file the newest checkpoint of ${named(data, "model")}`,
  "checkpoint.downloaded": (data) => `downloaded checkpoint ${id(data, "checkpoint_id")}`,
  "artifact.uploaded": (data) => `uploaded ${size(data)}, ${id(data, "digest")}`,
  "artifact.downloaded": (data) => `downloaded the file ${id(data, "digest")}`,
  "run.created": (data) =>
    `created the run ${named(data, "name")}${data["parent_run_id"] == null ? "" : `, forked from ${id(data, "parent_run_id")}`}`,
  "run.queued": (data) => `started run ${id(data, "run_id")}`,
  "run.pausing": (data) => `asked run ${id(data, "run_id")} to pause`,
  "run.paused": (data) => `paused run ${id(data, "run_id")}`,
  "run.resumed": (data) => `resumed run ${id(data, "run_id")}`,
  "run.cancelled": (data) => `cancelled run ${id(data, "run_id")}`,
  "receipt.held": (data) => `held receipt ${id(data, "digest")}`,
  "receipt.released": (data) => `released receipt ${id(data, "digest")}`,
  "alert.acknowledged": (data) => `acknowledged the alert: ${named(data, "message", "alert")}`,
  "alert.resolved": (data) => `ended the alert: ${named(data, "message", "alert")}`,
  "channel.created": (data) => `made a channel to ${named(data, "target")}`,
  "channel.changed": (data) => `changed the channel to ${named(data, "target")}`,
  "channel.removed": (data) => `removed the channel to ${named(data, "target")}`,
  "channel.tested": (data) => `tested the channel to ${named(data, "target", "channel_id")}`,
  "audit.exported": (data) => `exported the audit log${Number(data["after"]) > 0 ? ` after entry ${String(data["after"])}` : ""}`,
  "session.opened": () => "signed in",
  "session.refused": () => "was not let in: the email address or the password was wrong",
  "session.closed": () => "signed out",
  "token.created": (data) => `made the API token ${named(data, "name")}`,
  "token.revoked": (data) => `revoked the API token ${named(data, "name")}`,
  "user.created": (data) => `made an account for ${named(data, "email")}`,
  "user.changed": (data) => `changed the account of ${named(data, "email")}: ${changed(data)}`,
  "user.made_admin": (data) => `made ${named(data, "email")} an administrator`,
};

/** Actions that a list offers, by what they begin with. */
export const PREFIXES = {
  federation: [
    ["site.", "Sites"],
    ["invitation.", "Invitations"],
    ["run.", "Runs"],
    ["model.", "Models"],
    ["checkpoint.", "Checkpoints"],
    ["artifact.", "Files"],
    ["receipt.", "Receipts"],
    ["alert.", "Alerts"],
    ["member.", "Members"],
    ["federation.", "Settings"],
    ["channel.", "Channels"],
    ["audit.", "Exports of the log"],
  ],
  hub: [
    ["session.", "Signing in"],
    ["session.refused", "Refused sign-ins"],
    ["token.", "API tokens"],
    ["user.", "Accounts"],
    ["audit.", "Exports of the log"],
  ],
} as const;

/** Returns who acted, as a person reads it. */
export function actorOf({ actor }: AuditEntry): string {
  if (actor.kind === "site") return `site ${actor.name}`;
  return actor.kind === "hub" ? "the hub's command line" : actor.name;
}

/** Returns what was done, after the actor's name. */
export function deedOf(entry: Pick<AuditEntry, "action" | "data">): string {
  const tell = DEEDS[entry.action];
  const deed = tell === undefined ? humane(entry.action.replace(".", " ")).toLowerCase() : tell(entry.data);
  const reason = entry.data["reason"];
  return typeof reason === "string" && reason !== "" ? `${deed} (${reason})` : deed;
}

function named(data: Data, ...names: string[]): string {
  for (const name of names) {
    const value = data[name];
    if (typeof value === "string" && value !== "") return value;
  }
  return "without a name";
}

function id(data: Data, name: string): string {
  const value = data[name];
  return typeof value === "string" ? shortId(value, 12) : "of no number";
}

function counted(data: Data, name: string, one: string): string {
  const value = data[name];
  return typeof value === "number" ? plural(value, one) : `${one}s`;
}

function size(data: Data): string {
  return typeof data["size"] === "number" ? `a file of ${formatBytes(data["size"])}` : "a file";
}

function changed(data: Data): string {
  const changes = data["changes"];
  if (Array.isArray(changes)) return changes.map(String).map(humane).join(", ").toLowerCase();
  if (typeof changes === "object" && changes !== null) return Object.keys(changes).map(humane).join(", ").toLowerCase();
  return "its data";
}
