import { readFileSync } from "node:fs";

import * as ed25519 from "@noble/ed25519";
import { sha512 } from "@noble/hashes/sha2.js";
import { describe, expect, it } from "vitest";

import { readBody, subjectOf } from "@/features/receipts/body";
import type { Receipt, Update } from "@/features/receipts/receipts";
import type { Check } from "@/features/receipts/verification/ledger";
import { grouped, rowsOf } from "@/features/receipts/verification/ledger";
import type { Trust } from "@/features/receipts/verification/trust";
import { readHubKeys, readSiteKeys } from "@/features/receipts/verification/trust";
import { ReceiptWalk } from "@/features/receipts/verification/walk";
import { sha256Hex } from "@/integrity/digests";
import { utf8 } from "@/integrity/encoding";
import { fingerprintOf } from "@/integrity/signing";

ed25519.hashes.sha512 = sha512;

type Value = null | boolean | number | string | Value[] | { [name: string]: Value } | Float;
class Float {
  constructor(readonly text: string) {}
}

/** Canonical JSON of the little that receipts hold. */
function canonical(value: Value): string {
  if (value instanceof Float) return value.text;
  if (Array.isArray(value)) return `[${value.map(canonical).join(",")}]`;
  if (typeof value !== "object" || value === null) return JSON.stringify(value);
  const names = Object.keys(value).sort();
  return `{${names.map((name) => `${JSON.stringify(name)}:${canonical(value[name] ?? null)}`).join(",")}}`;
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString("base64url");
}

class Signer {
  private readonly secret: Uint8Array;
  readonly key: Uint8Array;
  readonly fingerprint: string;

  constructor(seed: number) {
    this.secret = new Uint8Array(32).fill(seed);
    this.key = ed25519.getPublicKey(this.secret);
    this.fingerprint = fingerprintOf(this.key);
  }

  sign(purpose: string, payload: string) {
    const signature = ed25519.sign(utf8(`hansa/1\n${purpose}\n${payload}`), this.secret);
    return { signature: base64url(signature), public_key: base64url(this.key), fingerprint: this.fingerprint };
  }
}

const RUN = "01950000-0000-7000-8000-000000000002";
const AT = "2026-03-01T12:30:15.250000Z";
const PLAN = canonical({ cohort: { min_sites: 2 }, model: "tumor", name: "first", rounds: 2 });
const hub = new Signer(1);
const sites = [
  { id: "site-a", name: "bergen", signer: new Signer(2) },
  { id: "site-b", name: "oslo", signer: new Signer(3) },
];
const checkpoint = (round: number) => ({ digest: sha256Hex(`checkpoint ${round}`), size: 100 + round });
const taskId = (round: number, id: string) => `task-${round}-${id}`;

function manifest(round: number, id: string): string {
  return canonical({
    task_id: taskId(round, id),
    run_id: RUN,
    site_id: id,
    round_number: round,
    checkpoint_digest: checkpoint(round - 1).digest,
    digest: sha256Hex(`update ${round} ${id}`),
    size: 50,
    num_examples: 300,
  });
}

function storedUpdates(): Update[] {
  return [1, 2].flatMap((round) =>
    sites.map(({ id, name, signer }) => ({
      id: `update-${round}-${id}`,
      task_id: taskId(round, id),
      site_id: id,
      site_name: name,
      digest: sha256Hex(`update ${round} ${id}`),
      size: 50,
      num_examples: 300,
      manifest: manifest(round, id),
      ...signer.sign("update-manifest", manifest(round, id)),
      created_at: AT,
    })),
  );
}

type Body = Record<string, Value>;

function bodies(): Body[] {
  const shared = (number: number): Body => ({
    format: "hansa-receipt/3",
    hub: hub.fingerprint,
    federation: { id: "fed", name: "nordic" },
    run: { id: RUN, name: "first" },
    plan_digest: sha256Hex(PLAN),
    number,
    parent: null, // filled in as the chain is made
    origin: null,
    issued_at: AT,
    software: { hub: "0.1.0" },
    round: null,
    end: null,
  });
  const rounds = [1, 2].map((round) => ({
    ...shared(round),
    origin:
      round > 1 ? null : { checkpoint: checkpoint(0), parent_run: null, receipt: null, plan: PLAN, rounds_before: 0 },
    round: {
      id: `round-${round}`,
      round_number: round,
      retry: 0,
      kind: "train",
      state: "completed",
      reason: null,
      opened_at: AT,
      closed_at: AT,
      threshold: 2,
      target: null,
      base: checkpoint(round - 1),
      cohort: sites.map(({ id, name, signer }) => ({
        task_id: taskId(round, id),
        site: { id, name, fingerprint: signer.fingerprint },
        evaluator: false,
        outcome: "done",
        reason: null,
        report: null,
      })),
      excluded: [{ site: "zurich", reason: "offline" }],
      updates: sites.map(({ id, name, signer }) => ({
        task_id: taskId(round, id),
        site: { id, name, fingerprint: signer.fingerprint },
        digest: sha256Hex(`update ${round} ${id}`),
        size: 50,
        num_examples: 300,
        manifest: sha256Hex(manifest(round, id)),
        staleness: 0,
        weight: 300,
        scale: new Float("1.0"),
        reason: null,
      })),
      aggregate: { rule: "weighted-mean/1", checkpoint: checkpoint(round) },
    },
  }));
  const last: Body = {
    ...shared(3),
    end: {
      cause: "finished",
      state: "completed",
      reason: null,
      stop_reason: null,
      sites: [],
      rounds_completed: 2,
      checkpoint: checkpoint(2),
      bytes_moved: 1200,
      started_at: AT,
      ended_at: AT,
    },
  };
  return [...rounds, last];
}

/** Signs bodies as a chain, as a hub would: a hub that lies signs what it likes. */
function chain(said: Body[] = bodies(), signer = hub): Receipt[] {
  let parent: string | null = null;
  return said.map((one, at) => {
    const body = canonical({ ...one, parent });
    parent = sha256Hex(body);
    return {
      number: at + 1,
      digest: parent,
      round_number: null,
      body,
      ...signer.sign("receipt", body),
      hold: null,
      created_at: AT,
    };
  });
}

const TRUST: Trust = {
  hubKeys: new Set([hub.fingerprint]),
  siteKeys: new Map(sites.map(({ name, signer }) => [name, new Set([signer.fingerprint])])),
};

function walk(receipts: Receipt[], updates = storedUpdates(), trust = TRUST, runState: "completed" | "running" = "completed") {
  const pass = new ReceiptWalk({ runId: RUN, runState, hubKey: hub.fingerprint });
  for (const receipt of receipts) {
    const body = pass.open(receipt);
    if (body === null) continue;
    for (const said of body.round?.updates ?? []) {
      if (body.round !== null) pass.update(body, body.round, said, updates.find((one) => one.task_id === said.task_id));
    }
    pass.close(body);
  }
  pass.finish(trust);
  return pass;
}

/** Returns the checks that failed. */
function failed(...args: Parameters<typeof walk>): Check[] {
  return [...new Set(walk(...args).ledger.wrong.map((one) => one.check))];
}

/** Changes something deep inside the second round's body, and lets the hub sign it again. */
function withRound(change: (round: Body) => Body, at = 1): Receipt[] {
  const said = bodies();
  const body = said[at] ?? {};
  return chain(said.with(at, { ...body, round: change(body["round"] as Body) }));
}

describe("a chain of receipts", () => {
  it("holds, but for what takes the stored files", () => {
    const { ledger, head } = walk(chain());
    expect(ledger.wrong).toEqual([]);
    expect(Object.fromEntries(ledger.holds)).toEqual({
      chain: 3,
      "receipt digest": 3,
      "receipt signature": 3,
      plan: 1,
      lineage: 2,
      quorum: 2,
      "update signature": 4,
      weight: 4,
      "run's end": 1,
      "hub key": 1,
      "site key": 2,
    });
    expect(new Set(ledger.unchecked.map((one) => one.check))).toEqual(new Set(["aggregate", "stored file"]));
    expect(head).toBe(chain().at(-1)?.digest);
    expect(rowsOf(ledger).map((row) => row.check).slice(0, 2)).toEqual(["chain", "receipt digest"]);
    expect(grouped(ledger.unchecked)[0]?.subjects).toHaveLength(2);
  });

  it("says what is not known where no key was given", () => {
    const { ledger } = walk(chain(), storedUpdates(), { hubKeys: new Set(), siteKeys: new Map() });
    expect(ledger.wrong).toEqual([]);
    expect(ledger.unchecked.filter((one) => one.check === "hub key")[0]?.message).toContain("proves nothing");
    expect(ledger.unchecked.filter((one) => one.check === "site key")).toHaveLength(2);
  });

  it("tells a letter that was changed", () => {
    const receipts = chain();
    const changed = receipts.map((one, at) => (at === 0 ? { ...one, body: one.body.replace("nordic", "nordik") } : one));
    expect(failed(changed)).toEqual(["receipt digest", "receipt signature", "chain"]);
  });

  it("tells another hub's signature, though the hub names it as its own", () => {
    const other = new Signer(9);
    expect(failed(chain(bodies(), other))).toEqual(["receipt signature"]);
    const renamed = bodies().map((one) => ({ ...one, hub: other.fingerprint }));
    expect(failed(chain(renamed, other))).toEqual(["hub key"]);
  });

  it("tells receipts that are missing, moved or cut off", () => {
    const receipts = chain();
    expect(failed(receipts.toSpliced(1, 1))).toContain("chain");
    expect(failed([...receipts.slice(0, 2).reverse(), ...receipts.slice(2)])).toContain("chain");
    expect(failed(receipts.slice(0, 2))).toEqual(["run's end"]);
    expect(failed(receipts.slice(0, 2), storedUpdates(), TRUST, "running")).toEqual([]);
  });

  it("tells another run's receipts, and a body that is none", () => {
    expect(failed(chain(bodies().map((one) => ({ ...one, run: { id: "other", name: "x" } }))))).toContain("chain");
    const strange = bodies().map((one) => ({ ...one, extra: 1 }));
    expect(walk(chain(strange)).ledger.wrong[0]?.message).toContain("extra: an unknown field");
  });

  it("tells a plan that is not the one", () => {
    const said = bodies();
    const origin = said[0]?.["origin"] as Body;
    expect(failed(chain(said.with(0, { ...said[0], origin: { ...origin, plan: PLAN.replace("first", "other") } })))).toEqual(["plan"]);
  });

  it("tells a round that began elsewhere", () => {
    expect(failed(withRound((round) => ({ ...round, base: checkpoint(0) })))).toContain("lineage");
    expect(failed(withRound((round) => ({ ...round, round_number: 3 })))).toContain("lineage");
  });

  it("tells a round without its quorum", () => {
    expect(failed(withRound((round) => ({ ...round, threshold: 3 })))).toEqual(["quorum"]);
    expect(failed(withRound((round) => ({ ...round, threshold: 1 })))).toEqual(["quorum"]);
    const twice = withRound((round) => ({ ...round, updates: [...(round["updates"] as Value[]), ...(round["updates"] as Value[])] }));
    expect(failed(twice)).toEqual(["quorum"]);
  });

  it("tells an update that its site did not sign so", () => {
    const updates = storedUpdates();
    const other = sites[1]?.signer.sign("update-manifest", updates[0]?.manifest ?? "");
    const first = updates[0];
    if (first === undefined || other === undefined) throw new Error("no updates");
    expect(failed(chain(), updates.with(0, { ...first, ...other }))).toEqual(["update signature"]);
    expect(failed(chain(), updates.with(0, { ...first, manifest: first.manifest.replace("300", "900") }))).toEqual(["update signature"]);
    const inflated = withRound((round) => ({
      ...round,
      updates: (round["updates"] as Body[]).map((one, at) => (at === 0 ? { ...one, num_examples: 900, weight: 900 } : one)),
    }));
    expect(failed(inflated)).toEqual(["update signature"]);
    expect(walk(chain(), updates.slice(1)).ledger.unchecked.map((one) => one.check)).toContain("update signature");
  });

  it("tells an update that counted for more than was signed", () => {
    const change = (changes: Body) =>
      withRound((round) => ({ ...round, updates: (round["updates"] as Body[]).map((one) => ({ ...one, ...changes })) }));
    expect(failed(change({ weight: 301 }))).toEqual(["weight"]);
    expect(failed(change({ scale: new Float("0.5") }))).toEqual(["weight"]);
  });

  it("tells an end that is not the rounds'", () => {
    const said = bodies();
    const end = said[2]?.["end"] as Body;
    const ended = (changes: Body) => failed(chain(said.with(2, { ...said[2], end: { ...end, ...changes } })));
    expect(ended({ rounds_completed: 3 })).toEqual(["run's end"]);
    expect(ended({ checkpoint: checkpoint(1) })).toEqual(["run's end"]);
    expect(ended({ state: "failed" })).toEqual(["run's end"]);
  });
});

describe("the repository's receipts", () => {
  it.each(["receipt.json", "receipt-2.json", "receipt-3.json"])("reads and checks %s", (name) => {
    const url = new URL(`../../../../../tests/vectors/${name}`, import.meta.url);
    const vector = JSON.parse(readFileSync(url, "utf8")) as Pick<Receipt, "body" | "digest" | "signature" | "public_key">;
    const said = readBody(vector.body);
    expect(subjectOf(said)).toMatch(/^receipt \d+ \(/);
    const pass = new ReceiptWalk({ runId: said.run.id, runState: "running", hubKey: said.hub });
    pass.open({ ...vector, number: 1, round_number: 1, fingerprint: said.hub, hold: null, created_at: AT });
    expect(pass.ledger.wrong.filter((one) => one.check !== "chain")).toEqual([]);
    expect(pass.ledger.holds.get("receipt signature")).toBe(1);
  });
});

describe("keys that people paste", () => {
  const key = sites[0]?.signer.fingerprint ?? "";

  it("reads the hub's", () => {
    expect(readHubKeys(` ${key.toUpperCase()}\n`)).toEqual({ keys: new Set([key]), strange: [] });
    expect(readHubKeys("abc")).toEqual({ keys: new Set(), strange: ["abc"] });
  });

  it("reads the sites', several of one", () => {
    const { keys, strange } = readSiteKeys(`oslo=${key}\n oslo = ${hub.fingerprint}\n\nbergen\n=${key}`);
    expect(keys).toEqual(new Map([["oslo", new Set([key, hub.fingerprint])]]));
    expect(strange).toEqual(["bergen", `=${key}`]);
  });
});
