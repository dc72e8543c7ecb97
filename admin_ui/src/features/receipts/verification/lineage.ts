/** Lineage: each round began from the checkpoint that the last completed one made. */
import type { ReceiptBody, RoundAccount, Slots } from "@/features/receipts/body";
import { subjectOf } from "@/features/receipts/body";
import type { Ledger } from "@/features/receipts/verification/ledger";

/** A run's checkpoints as its receipts tell them. */
export class Lineage {
  head: string | null = null; // the newest checkpoint; null before anything is known
  roundsCompleted = 0; // training rounds, those before the first receipt included
  private slots: string | null = null; // the newest checkpoint's, as a text to compare
  private ended: readonly [number: number, retry: number] = [0, 0];
  private readonly made: string[] = []; // the base, then every round's checkpoint

  constructor(private readonly ledger: Ledger) {}

  /** Takes the run's base as the head. */
  begin(receipt: ReceiptBody): void {
    if (receipt.origin === null) return;
    const { rounds_before: before, checkpoint } = receipt.origin;
    this.roundsCompleted = before;
    if (before > 0) {
      this.ledger.skip("lineage", subjectOf(receipt), `${before} rounds were closed before the hub gave receipts`);
    } else {
      this.learn(checkpoint.digest);
    }
  }

  /** Returns the digests of the checkpoints up to the round's base, the newest last. */
  checkpoints(account: RoundAccount): readonly string[] {
    return this.made.at(-1) === account.base.digest ? this.made : [account.base.digest];
  }

  /** Checks a round against what came before it, and takes over what it made. */
  step(receipt: ReceiptBody, account: RoundAccount): void {
    const subject = subjectOf(receipt);
    const base = slotsOf(account.base_slots);
    this.ledger.settle("lineage", subject, this.problems(account, base));
    if (this.slots === null && base !== "") {
      this.ledger.skip("lineage", subject, "the server's slots that it went on from were made by another run");
    }
    if (this.head === null) this.learn(account.base.digest);
    this.slots = base;
    this.ended = [account.round_number, account.retry];
    if (account.state === "completed" && account.kind === "train") {
      this.roundsCompleted = account.round_number;
      if (account.aggregate !== null) {
        this.learn(account.aggregate.checkpoint.digest);
        this.slots = slotsOf(account.aggregate.slots);
      }
    }
  }

  private problems(account: RoundAccount, base: string): string[] {
    const wrong: string[] = [];
    const { round_number: number, retry } = account;
    const [lastNumber, lastRetry] = this.ended;
    if (this.head !== null && account.base.digest !== this.head) {
      wrong.push(`it began from checkpoint ${account.base.digest}, the newest one was ${this.head}`);
    }
    if (this.head !== null && number !== this.roundsCompleted + 1) {
      wrong.push(`it has number ${number} after ${this.roundsCompleted} completed rounds, wanted ${this.roundsCompleted + 1}`);
    }
    if (number < lastNumber || (number === lastNumber && retry <= lastRetry)) {
      wrong.push(`number ${number}, retry ${retry} does not come after number ${lastNumber}, retry ${lastRetry}`);
    }
    if (this.slots !== null && base !== this.slots) {
      wrong.push("it went on from other slots of the server's than were left to it");
    }
    return wrong;
  }

  private learn(digest: string): void {
    this.head = digest;
    this.made.push(digest);
  }
}

function slotsOf(slots: Slots): string {
  const names = Object.keys(slots).sort();
  return names.map((name) => `${name} ${slots[name]?.digest ?? ""}`).join("\n");
}
