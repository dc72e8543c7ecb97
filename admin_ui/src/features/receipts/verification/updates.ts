/**
 * Checking a stored update: the bytes that its site signed speak, not the hub. A signature proves
 * that the holder of the key signed these numbers; whose key it is, people compare.
 */
import type { ReceivedUpdate } from "@/features/receipts/body";
import type { Update } from "@/features/receipts/receipts";
import type { GivenPlan } from "@/features/receipts/verification/accounts";
import { sha256Hex } from "@/integrity/digests";
import { checkSigned } from "@/integrity/signing";

const CLOSE_ENOUGH = 1e-9; // of the scale: a power may differ elsewhere in the last bit
const STALENESS_EXPONENT = 0.5; // where the plan says nothing

export interface Round {
  runId: string;
  number: number;
  checkpoints: readonly string[]; // of the run up to the round's base, the newest last
}

/** Returns what is wrong with an update and with what the receipt says of it; nothing where it holds. */
export function updateProblems(said: ReceivedUpdate, stored: Update, round: Round): string[] {
  const found = checkSigned("update-manifest", {
    payload: stored.manifest,
    signature: stored.signature,
    publicKey: stored.public_key,
  });
  if ("wrong" in found) return [found.wrong];
  const manifest = readManifest(stored.manifest);
  if (manifest === null) return ["what the site signed is no manifest of an update"];
  const { staleness } = said;
  const told: [name: string, signed: unknown, said: unknown][] = [
    ["the run", manifest["run_id"], round.runId],
    ["the task", manifest["task_id"], said.task_id],
    ["the task, as the hub lists it", manifest["task_id"], stored.task_id],
    ["the site", manifest["site_id"], said.site.id],
    ["the site, as the hub lists it", manifest["site_id"], stored.site_id],
    ["the key", found.signer, said.site.fingerprint],
    ["the key, as the hub lists it", found.signer, stored.fingerprint],
    ["the digest", manifest["digest"], said.digest],
    ["the digest, as the hub lists it", manifest["digest"], stored.digest],
    ["the size", manifest["size"], said.size],
    ["the size, as the hub lists it", manifest["size"], stored.size],
    ["the number of examples", manifest["num_examples"], said.num_examples],
    ["the number of examples, as the hub lists it", manifest["num_examples"], stored.num_examples],
    ["the manifest's SHA-256", sha256Hex(stored.manifest), said.manifest],
    ["the round", manifest["round_number"], round.number - staleness],
  ];
  const base = round.checkpoints.at(-1 - staleness);
  if (base !== undefined) told.push(["the checkpoint", manifest["checkpoint_digest"], base]);
  const wrong = told.filter(([, signed, other]) => signed !== other);
  if (wrong.length === 0) return [];
  return [wrong.map(([name, signed, other]) => `${name}: signed ${say(signed)}, told ${say(other)}`).join("; ")];
}

/** Returns what is wrong with how much a used update counted; nothing where it is right or was not used. */
export function weightProblems(said: ReceivedUpdate, plan: GivenPlan): string[] {
  if (said.weight === null || said.scale === null) return [];
  if (said.weight !== said.num_examples) {
    return [`it counted for ${said.weight} examples, ${said.num_examples} were signed`];
  }
  const isBuffered = plan.buffer != null;
  const exponent = plan.buffer?.staleness_exponent ?? STALENESS_EXPONENT;
  const wanted = isBuffered ? (1 + said.staleness) ** -exponent : 1;
  const isClose = Math.abs(said.scale - wanted) <= CLOSE_ENOUGH * Math.max(said.scale, wanted);
  if (isClose && (isBuffered || said.staleness === 0)) return [];
  return [`it was scaled by ${said.scale} at staleness ${said.staleness}, not ${wanted}`];
}

function readManifest(text: string): Record<string, unknown> | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : null;
  } catch {
    return null;
  }
}

function say(value: unknown): string {
  return typeof value === "string" || typeof value === "number" ? String(value) : JSON.stringify(value);
}
