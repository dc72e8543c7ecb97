/** Where an invitation stands, and the commands that go with it. */
import type { StateLook } from "@/components/states";
import type { Invitation } from "@/features/sites/sites";

export type Standing = "open" | "used" | "expired" | "revoked";

export const STANDINGS: Record<Standing, StateLook> = {
  open: { label: "open", colour: "green" },
  used: { label: "used up", colour: "gray" },
  expired: { label: "expired", colour: "gray" },
  revoked: { label: "revoked", colour: "gray" },
};

/** Returns whether sites can still come with an invitation, and if not, why. */
export function standingOf(invitation: Invitation, now: Date): Standing {
  if (invitation.revoked_at !== null) return "revoked";
  if (invitation.uses >= invitation.max_uses) return "used";
  return new Date(invitation.expires_at) <= now ? "expired" : "open";
}

export const INSTALL = 'pip install "./client_sdk[torch]"';
export const STATUS = "hansa site status";
export const ROTATE = "hansa site rotate-key";
export const TRAINER = "package.module:object";

/** Returns what starts a site. */
export function startCommand(trainer: string): string {
  return `hansa site run --trainer ${trainer.trim() || TRAINER}`;
}

/** Returns an invitation's command, with the site's name in its place where one is given. */
export function enrolCommand(command: string, name: string): string {
  return name === "" ? command : command.replace(/ NAME$/, ` ${name}`);
}

const NAME = /^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$/;

/** Returns what is wrong with a site's name; null: nothing. */
export function problemOfName(name: string): string | null {
  if (name === "" || NAME.test(name)) return null;
  return "Lower case letters, digits, '.', '_' and '-', at most 64; a letter or digit first and last.";
}
