/**
 * One pass over a run's chain of receipts, in its order, with what a browser can check: everything
 * but what takes the stored files. A receipt that cannot be believed does not end the pass. Pure.
 */
import type { Schema } from "@/api/types";
import type { ReceiptBody, ReceivedUpdate, RoundAccount } from "@/features/receipts/body";
import { readBody, subjectOf } from "@/features/receipts/body";
import type { Receipt, Update } from "@/features/receipts/receipts";
import type { GivenPlan } from "@/features/receipts/verification/accounts";
import { endProblems, quorumProblems } from "@/features/receipts/verification/accounts";
import { Ledger } from "@/features/receipts/verification/ledger";
import { Lineage } from "@/features/receipts/verification/lineage";
import type { Trust } from "@/features/receipts/verification/trust";
import { checkKeys } from "@/features/receipts/verification/trust";
import { updateProblems, weightProblems } from "@/features/receipts/verification/updates";
import { sha256Hex } from "@/integrity/digests";
import { checkSigned } from "@/integrity/signing";

export interface Subject {
  runId: string;
  runState: Schema<"RunState">; // as it was before the receipts were read
  hubKey: string; // the fingerprint that the hub shows
}

export class ReceiptWalk {
  readonly ledger = new Ledger();
  readonly hubKeys = new Set<string>();
  readonly siteKeys = new Map<string, Set<string>>();
  head: string | null = null; // SHA-256 of the last body
  count = 0;
  private plan: GivenPlan | null = null;
  private before: ReceiptBody | null = null;
  private readonly lineage = new Lineage(this.ledger);

  constructor(private readonly about: Subject) {}

  /** Checks a receipt as such: its name, its signature, its place. Returns what it says, if it can be read. */
  open(stored: Receipt): ReceiptBody | null {
    const { ledger } = this;
    this.count += 1;
    let body: ReceiptBody | null = null;
    let subject = `receipt ${this.count}`;
    try {
      body = readBody(stored.body);
      subject = subjectOf(body);
    } catch (error) {
      ledger.fail("chain", subject, `${messageOf(error)}; what it says is not looked at`);
    }
    const found = sha256Hex(stored.body);
    const isNamed = found === stored.digest;
    ledger.settle("receipt digest", subject, isNamed ? [] : [`the body has SHA-256 ${found}, it is stored as ${stored.digest}`]);
    this.checkSignature(stored, body, subject);
    if (body !== null) ledger.settle("chain", subject, this.placeProblems(body));
    this.head = found;
    this.before = body;
    if (body?.origin != null) {
      this.takePlan(body);
      this.lineage.begin(body);
    }
    return body;
  }

  /** Checks an update that a round's receipt names; `stored` is what the hub has of it. */
  update(body: ReceiptBody, account: RoundAccount, said: ReceivedUpdate, stored: Update | undefined): void {
    const { ledger } = this;
    const subject = `${subjectOf(body)}, site ${said.site.name}`;
    const checkpoints = this.lineage.checkpoints(account);
    const keys = this.siteKeys.get(said.site.name) ?? new Set();
    this.siteKeys.set(said.site.name, keys.add(said.site.fingerprint));
    if (stored === undefined) {
      ledger.skip("update signature", subject, "the hub has its signed manifest no more");
    } else {
      const round = { runId: this.about.runId, number: account.round_number, checkpoints };
      ledger.settle("update signature", subject, updateProblems(said, stored, round));
      if (said.staleness >= checkpoints.length) {
        ledger.skip("lineage", subject, `the checkpoint of ${said.staleness} rounds before is in no receipt`);
      }
    }
    if (said.weight === null) return;
    if (this.plan === null) ledger.skip("weight", subject, "the plan, which says what staleness costs, is unknown");
    else ledger.settle("weight", subject, weightProblems(said, this.plan));
  }

  /** Checks the rest of what a receipt claims, when its updates were looked at. */
  close(body: ReceiptBody): void {
    const { ledger } = this;
    const subject = subjectOf(body);
    const account = body.round;
    if (account !== null) {
      const isUsed = account.aggregate !== null || account.updates.some((one) => one.weight !== null);
      if (account.state === "completed") ledger.settle("quorum", subject, quorumProblems(account, this.plan));
      else if (isUsed) ledger.fail("aggregate", subject, `the round is ${account.state} and yet claims an aggregate`);
      this.lineage.step(body, account);
      this.leave(subject, account);
    }
    if (body.end !== null) ledger.settle("run's end", subject, endProblems(body.end, this.lineage, this.plan));
  }

  /** Checks the chain's end and the keys that signed. */
  finish(trust: Trust): void {
    const { runState } = this.about;
    const hasEnded = runState === "completed" || runState === "failed" || runState === "cancelled";
    if (this.count === 0) {
      this.ledger.skip("chain", "the chain", "there is no receipt yet: the first one comes with the first closed round");
    } else if (this.before?.end == null && hasEnded) {
      this.ledger.fail("run's end", `after receipt ${this.count}`, `the run is ${runState}, but the receipt of its end is missing`);
    } else if (this.before?.end == null) {
      this.ledger.skip("run's end", `after receipt ${this.count}`, `the run was ${runState} when this was read: it has no end yet`);
    }
    if (this.count > 0) this.ledger.skip("stored file", "all files", "the browser reads none of them; hansa verify does");
    checkKeys(this.ledger, trust, this, this.about.hubKey);
  }

  private checkSignature(stored: Receipt, body: ReceiptBody | null, subject: string): void {
    const found = checkSigned("receipt", {
      payload: stored.body,
      signature: stored.signature,
      publicKey: stored.public_key,
    });
    if ("wrong" in found) {
      this.ledger.fail("receipt signature", subject, found.wrong);
      return;
    }
    const isNamed = body === null || body.hub === found.signer;
    const wrong = `signed with key ${found.signer}, it names the hub's key ${body?.hub ?? ""}`;
    if (this.ledger.settle("receipt signature", subject, isNamed ? [] : [wrong])) this.hubKeys.add(found.signer);
  }

  private placeProblems(body: ReceiptBody): string[] {
    const { before } = this;
    const wrong: string[] = [];
    if (body.number !== this.count) {
      wrong.push(`it has number ${body.number}, wanted ${this.count}: receipts are missing, repeated or out of order`);
    }
    if (body.parent !== this.head) {
      wrong.push(`its parent is ${body.parent ?? "none"}, the receipt before it is ${this.head ?? "none"}`);
    }
    if (body.run.id !== this.about.runId) wrong.push(`it is of run ${body.run.id}, wanted ${this.about.runId}`);
    if (before === null) return wrong;
    if (before.end !== null) wrong.push("it comes after the run's end");
    const told: [name: string, seen: string, other: string][] = [
      ["federation", body.federation.id, before.federation.id],
      ["run", body.run.id, before.run.id],
      ["plan", body.plan_digest, before.plan_digest],
    ];
    for (const [name, seen, other] of told) {
      if (seen !== other) wrong.push(`its ${name} is ${seen}, that of the receipt before ${other}`);
    }
    return wrong;
  }

  private takePlan(body: ReceiptBody): void {
    const subject = subjectOf(body);
    const plan = body.origin?.plan ?? null;
    if (plan === null) {
      this.ledger.skip("plan", subject, "the receipt does not carry the plan's bytes");
      return;
    }
    const found = sha256Hex(plan);
    const isNamed = found === body.plan_digest;
    const wrong = `the plan has SHA-256 ${found}, the receipts name ${body.plan_digest}`;
    if (!this.ledger.settle("plan", subject, isNamed ? [] : [wrong])) return;
    const read = readPlan(plan);
    if (read === null) this.ledger.skip("plan", subject, "this console cannot read the plan");
    this.plan = read;
  }

  /** Notes what only the stored files could show. */
  private leave(subject: string, account: RoundAccount): void {
    if (account.state !== "completed") return;
    if (account.kind === "train" && account.aggregate === null) {
      this.ledger.fail("aggregate", subject, "a completed round without an aggregate");
    }
    if (account.secure !== null) {
      this.ledger.skip("secure sum", subject, "adding up masked updates takes their files; hansa verify does");
    }
    if (account.aggregate !== null) {
      this.ledger.skip("aggregate", subject, "recomputing it takes the stored updates; hansa verify does");
    }
  }
}

function readPlan(text: string): GivenPlan | null {
  try {
    const value: unknown = JSON.parse(text);
    return typeof value === "object" && value !== null ? value : null;
  } catch {
    return null;
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
