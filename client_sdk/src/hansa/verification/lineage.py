"""Lineage: each round began from the checkpoint that the last completed one made."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from hansa.verification.reports import Check, Ledger
from hansa_core.receipts import Blob, Origin, Receipt, RoundAccount
from hansa_core.states import RoundKind, RoundState


@dataclass(slots=True)
class Lineage:
    """A run's checkpoints as its receipts tell them."""

    ledger: Ledger
    head: str | None = None  # the newest checkpoint; None before anything is known
    rounds_completed: int = 0  # training rounds, those before the first receipt included
    slots: dict[str, str] | None = None  # the newest checkpoint's; None before anything is known
    ended: tuple[int, int] = (0, 0)  # (number, retry) of the last round
    _made: list[str] = field(default_factory=list[str])  # the base, then every round's checkpoint

    def begin(self, receipt: Receipt, origin: Origin) -> None:
        """Take the run's base as the head."""
        self.rounds_completed = origin.rounds_before
        if origin.rounds_before:
            why = f"{origin.rounds_before} rounds were closed before the hub gave receipts"
            self.ledger.skip(Check.LINEAGE, receipt.subject, why)
        else:
            self._learn(origin.checkpoint.digest)

    def checkpoints(self, account: RoundAccount) -> tuple[str, ...]:
        """Return the digests of the checkpoints up to the round's base, the newest last."""
        if self._made and self._made[-1] == account.base.digest:
            return tuple(self._made)
        return (account.base.digest,)

    def step(self, receipt: Receipt, account: RoundAccount) -> None:
        """Check a round against what came before it, and take over what it made."""
        wrong = self._problems(account)
        for problem in wrong:
            self.ledger.fail(Check.LINEAGE, receipt.subject, problem)
        if not wrong:
            self.ledger.hold(Check.LINEAGE)
        if self.slots is None and account.base_slots:
            why = "the server's slots that it went on from were made by another run"
            self.ledger.skip(Check.LINEAGE, receipt.subject, why)
        if self.head is None:
            self._learn(account.base.digest)
        self.slots = _digests(account.base_slots)
        self.ended = (account.round_number, account.retry)
        if account.state is RoundState.COMPLETED and account.kind is RoundKind.TRAIN:
            self.rounds_completed = account.round_number
            if account.aggregate is not None:
                self._learn(account.aggregate.checkpoint.digest)
                self.slots = _digests(account.aggregate.slots)

    def _problems(self, account: RoundAccount) -> list[str]:
        """Return where a round does not follow from what came before it."""
        wrong: list[str] = []
        if self.head is not None and account.base.digest != self.head:
            wrong.append(
                f"it began from checkpoint {account.base.digest}, the newest one was {self.head}"
            )
        if self.head is not None and account.round_number != self.rounds_completed + 1:
            wrong.append(
                f"it has number {account.round_number} after {self.rounds_completed} completed "
                f"rounds, wanted {self.rounds_completed + 1}"
            )
        if (account.round_number, account.retry) <= self.ended:
            number, retry = self.ended
            wrong.append(
                f"number {account.round_number}, retry {account.retry} does not come after "
                f"number {number}, retry {retry}"
            )
        if self.slots is not None and _digests(account.base_slots) != self.slots:
            wrong.append("it went on from other slots of the server's than were left to it")
        return wrong

    def _learn(self, digest: str) -> None:
        self.head = digest
        self._made.append(digest)


def _digests(slots: Mapping[str, Blob]) -> dict[str, str]:
    return {name: slot.digest for name, slot in slots.items()}
