"""Receipts: the hub's signed, content-addressed account of a closed round, or of a run's end.

    body      = canonical JSON of a Receipt, UTF-8
    digest    = SHA-256 of the body, lower-case hex: the receipt's name
    signature = Ed25519 by the hub's key, with purpose `receipt`, over the body

A run's receipts are a chain: `number` counts from 1 without gaps, and each names the digest of the
one before, so that none can be changed, dropped, added or moved without breaking a later one. The
first names where the run began and carries its plan.

Invariants: a body that parses is exactly the canonical JSON of what it parses to, so one receipt
has one digest; a format is never changed, only followed by another one. What formats 2 and 3 add is
left out where it is empty.
"""

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Literal, Self, cast
from uuid import UUID

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from hansa_core.canonical import canonical_json
from hansa_core.problems import CanonicalizationError, CoreError, ReceiptError
from hansa_core.signing import Purpose, fingerprint, public_key, sign, verify
from hansa_core.states import RoundKind, RoundState, RunState, TaskState
from hansa_core.wire.base import Digest

FORMAT = "hansa-receipt/3"
# The first has no slots and counts no population, the second has no secure sums.
FORMATS = ("hansa-receipt/1", "hansa-receipt/2", FORMAT)
MAX_BODY = 32 << 20  # bytes; ten thousand sites take a third of it


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Named(_Part):
    """A federation or a run: its id for ever, and what people called it then."""

    id: UUID
    name: str


class Site(_Part):
    """A site, by the key that it signs with."""

    id: UUID
    name: str
    fingerprint: str


class Blob(_Part):
    """A stored file."""

    digest: Digest
    size: int = Field(ge=0)  # bytes


class CohortEntry(_Part):
    """One site's task in a round, and what came of it."""

    task_id: UUID
    site: Site
    evaluator: bool  # asked to evaluate only; does not count for the threshold
    outcome: TaskState
    reason: str | None
    report: Digest | None  # SHA-256 of the signed evaluation report it sent


class Exclusion(_Part):
    """A site that was not asked, and why."""

    site: str
    reason: str


class ReceivedUpdate(_Part):
    """An update that the hub holds for this round."""

    task_id: UUID
    site: Site  # by the key that signed the manifest
    digest: Digest  # of the tensors
    size: int = Field(ge=0)  # bytes
    num_examples: int = Field(ge=1)  # as signed
    manifest: Digest  # SHA-256 of the signed bytes
    staleness: int = Field(ge=0)  # checkpoints between its base and the round's
    weight: int | None = Field(ge=1)  # examples it counts for; None: not used
    scale: float | None = Field(gt=0, le=1, allow_inf_nan=False)  # what staleness leaves of it
    reason: str | None  # why it was not used

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.weight is None) == (self.scale is None) == (self.reason is not None):
            raise ValueError(
                "an update has either a weight and a scale, or a reason why it was not used"
            )
        return self


class Aggregate(_Part):
    """What the round's updates became."""

    rule: str = Field(max_length=1024)  # Strategy.rule_name
    checkpoint: Blob
    slots: dict[str, Blob] = Field(default_factory=dict[str, Blob])  # the server's, by name

    @model_serializer(mode="wrap")
    def _without_empty(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_empty(serialize(self), "slots")


class SecureAccount(_Part):
    """How the sum of a round's masked updates was opened."""

    roster: Digest
    roster_version: int = Field(ge=1)
    round: Digest  # of the round's header
    participants: tuple[int, ...]  # positions in the roster
    survivors: tuple[int, ...]  # whose updates the sum is of; none where it came to no sum
    transcript: Blob | None  # what takes the masks off again
    summed: Blob | None  # the mean delta, in the place of the updates
    summed_parts: dict[str, Blob]  # the means of their parts


class RoundAccount(_Part):
    """How a round went."""

    id: UUID
    round_number: int = Field(ge=1)
    retry: int = Field(ge=0)  # rounds of that number that were held and failed before
    kind: RoundKind
    state: RoundState
    reason: str | None
    opened_at: datetime
    closed_at: datetime
    threshold: int = Field(ge=0)  # fewest answers that make the round
    target: int | None  # answers that close it at once
    base: Blob  # the checkpoint that was sent out
    base_slots: dict[str, Blob] = Field(default_factory=dict[str, Blob])  # those it hands on
    population: int | None = Field(default=None, ge=0)  # sites that could have been asked
    cohort: tuple[CohortEntry, ...]
    excluded: tuple[Exclusion, ...]
    updates: tuple[ReceivedUpdate, ...]
    aggregate: Aggregate | None
    secure: SecureAccount | None = None  # of a secure run

    @property
    def used(self) -> tuple[ReceivedUpdate, ...]:
        """The updates that the aggregate was made of."""
        return tuple(update for update in self.updates if update.weight is not None)

    @model_serializer(mode="wrap")
    def _without_empty(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without_empty(serialize(self), "base_slots", "population", "secure")


class EndCause(StrEnum):
    """Why a run ended."""

    FINISHED = "finished"  # every round is done, or the plan's own stopping rule held
    CANCELLED = "cancelled"  # somebody stopped it: the reason names them
    QUORUM = "quorum"  # too few sites answered: `sites` names those that did not
    AGGREGATION = "aggregation"  # the answers were there and could not be combined


class Unanswered(_Part):
    """A site that the run waited for in vain."""

    site: str
    outcome: TaskState
    reason: str | None


class RunEnd(_Part):
    """How a run ended."""

    cause: EndCause
    state: RunState
    reason: str | None
    stop_reason: str | None  # why training ended before the plan's last round
    sites: tuple[Unanswered, ...]  # of the last round, where that is why the run ended
    rounds_completed: int = Field(ge=0)  # training rounds
    checkpoint: Blob  # the model that the run leaves
    bytes_moved: int = Field(ge=0)  # to and from sites
    started_at: datetime | None
    ended_at: datetime


class Origin(_Part):
    """Where a run began; only the first receipt says it."""

    checkpoint: Blob
    parent_run: UUID | None  # the run that this one was forked from
    receipt: Digest | None  # of the round that made the checkpoint, in whatever run
    plan: str | None  # canonical JSON, exactly the bytes of `plan_digest`
    rounds_before: int = Field(ge=0)  # training rounds closed before the hub gave receipts


class Receipt(_Part):
    """One link of a run's chain: a closed round, or the run's end."""

    format: Literal["hansa-receipt/1", "hansa-receipt/2", "hansa-receipt/3"]
    hub: str  # fingerprint of the key that signs
    federation: Named
    run: Named
    plan_digest: Digest
    number: int = Field(ge=1)
    parent: Digest | None  # the receipt before; None: this is the first
    origin: Origin | None
    issued_at: datetime
    software: dict[str, str]  # versions by name, of the process that closed the round
    round: RoundAccount | None
    end: RunEnd | None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if (self.round is None) == (self.end is None):
            raise ValueError("a receipt is either of a round or of a run's end")
        if self.round is not None:
            self._check_format(self.round)
        first = self.number == 1
        if (self.parent is None) != first or (self.origin is not None) != first:
            raise ValueError(
                f"number {self.number} and a parent or an origin do not go together: "
                "the first receipt has an origin, every other one a parent"
            )
        return self

    def _check_format(self, account: RoundAccount) -> None:
        if self.format == FORMATS[0] and _counts_slots(account):
            raise ValueError(f"a receipt of format {self.format} has no slots and no population")
        if self.format != FORMAT and account.secure is not None:
            raise ValueError(f"a receipt of format {self.format} has no secure sum")

    @property
    def subject(self) -> str:
        """What to call it in a sentence."""
        if self.round is None:
            return f"receipt {self.number} (the run's end)"
        again = f", retry {self.round.retry}" if self.round.retry else ""
        return f"receipt {self.number} (round {self.round.round_number}{again})"


@dataclass(frozen=True, slots=True)
class SealedReceipt:
    """A receipt as it is stored and sent."""

    body: bytes
    digest: str  # what it is said to be
    signature: bytes
    public_key: bytes  # of the hub, at that time


def seal(receipt: Receipt, private_key: bytes) -> SealedReceipt:
    """Return the receipt signed. Raises CanonicalizationError, KeyFormatError."""
    body = canonical_json(receipt.model_dump(mode="json"))
    return SealedReceipt(
        body=body,
        digest=hashlib.sha256(body).hexdigest(),
        signature=sign(private_key, Purpose.RECEIPT, body),
        public_key=public_key(private_key),
    )


def parse_body(body: bytes) -> Receipt:
    """Return what a body says. Its signature is `check_signature`'s to check.

    Raises:
        ReceiptError: not a receipt, not of a format known here, or not in canonical form.
    """
    if len(body) > MAX_BODY:
        raise ReceiptError(f"the body has {len(body)} bytes, wanted at most {MAX_BODY}")
    try:
        value: object = json.loads(body)
        named = cast("dict[str, object]", value).get("format") if isinstance(value, dict) else None
        if named not in FORMATS:
            wanted = " or ".join(map(repr, FORMATS))
            raise ReceiptError(f"the body's format is {str(named)[:40]!r}, wanted {wanted}")
        receipt = Receipt.model_validate_json(body)
        again = canonical_json(receipt.model_dump(mode="json"))
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "the body"
        raise ReceiptError(f"{where}: {first['msg']}") from error
    except (ValueError, RecursionError, CanonicalizationError) as error:
        raise ReceiptError(f"the body is no canonical JSON: {error}") from error
    if again != body:
        raise ReceiptError("the body is not the canonical JSON of what it says")
    return receipt


def check_digest(sealed: SealedReceipt) -> str | None:
    """Return what is wrong with the receipt's name, or None."""
    found = hashlib.sha256(sealed.body).hexdigest()
    if found == sealed.digest:
        return None
    return f"the body has SHA-256 {found}, it is said to have {sealed.digest}"


def check_signature(sealed: SealedReceipt, receipt: Receipt | None = None) -> str | None:
    """Return what is wrong with the signature, or with whom the receipt says made it, or None."""
    try:
        verify(sealed.public_key, Purpose.RECEIPT, sealed.body, sealed.signature)
        signer = fingerprint(sealed.public_key)
    except CoreError as error:
        return str(error)
    if receipt is not None and receipt.hub != signer:
        return f"signed with key {signer}, it names the hub's key {receipt.hub}"
    return None


def chain_problems(
    receipt: Receipt, *, position: int, parent: str | None, before: Receipt | None
) -> list[str]:
    """Return what is wrong with a receipt as the one at `position` (from 1) of its chain.

    `parent` is the SHA-256 of the body before it, None for the first; `before` what that body
    says, None where it cannot be read.
    """
    wrong: list[str] = []
    if receipt.number != position:
        wrong.append(
            f"it has number {receipt.number}, wanted {position}: receipts are missing, repeated "
            "or out of order"
        )
    if receipt.parent != parent:
        wrong.append(f"its parent is {receipt.parent}, the receipt before it is {parent}")
    if before is None:
        return wrong
    if before.end is not None:
        wrong.append("it comes after the run's end")
    told = {
        "federation": (receipt.federation.id, before.federation.id),
        "run": (receipt.run.id, before.run.id),
        "plan": (receipt.plan_digest, before.plan_digest),
    }
    wrong += [
        f"its {name} is {seen}, that of the receipt before {other}"
        for name, (seen, other) in told.items()
        if seen != other
    ]
    return wrong


def _without_empty(said: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a dump without those of the fields that say nothing."""
    return {name: value for name, value in said.items() if name not in names or value}


def _counts_slots(account: RoundAccount) -> bool:
    slots = account.base_slots or (account.aggregate is not None and account.aggregate.slots)
    return bool(slots) or account.population is not None
