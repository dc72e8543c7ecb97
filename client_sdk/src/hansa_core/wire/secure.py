"""Messages of secure runs: duties that a site owes the protocol, rosters, and how a round stands.

What is signed in them is hansa_core.secagg.messages; here is only how it travels.
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field

from hansa_core.secagg.messages import (
    MAX_BODY,
    Confirmation,
    Header,
    Keys,
    Opening,
    Positions,
    Signature,
    SignedConfirmation,
    Survivors,
    SurvivorSignature,
)
from hansa_core.secagg.plans import Terms
from hansa_core.wire.base import Digest, Request, Response

MAX_REFUSAL = 2000  # characters


class DutyKind(StrEnum):
    """What a site owes the protocol, in the order of a round."""

    KEYS = "keys"
    CONFIRM = "confirm"
    SIGN = "sign"
    OPEN = "open"


class _Duty(Response):
    id: UUID
    federation_id: UUID
    run_id: UUID
    run_name: str
    round_id: UUID
    round_number: int


class KeysDuty(_Duty):
    """Make keys for a version of the run's roster."""

    kind: Literal[DutyKind.KEYS]
    version: int
    terms: Terms


class ConfirmDuty(_Duty):
    """Check a roster and sign it: GET /v1/rosters/{digest}."""

    kind: Literal[DutyKind.CONFIRM]
    version: int
    roster: Digest


class SignDuty(_Duty):
    """Check a round's survivors and sign them."""

    kind: Literal[DutyKind.SIGN]
    header: Header
    survivors: Positions


class OpenDuty(_Duty):
    """Give shares of the seeds that a signed set of survivors takes.

    `seals`: url-safe base64 of the member's seals, 49 bytes each, in the order of an opening.
    """

    kind: Literal[DutyKind.OPEN]
    header: Header
    survivors: Positions
    signatures: list[SurvivorSignature]
    seals: str = Field(max_length=2 * MAX_BODY)


Duty = Annotated[KeysDuty | ConfirmDuty | SignDuty | OpenDuty, Field(discriminator="kind")]


class Duties(Response):
    """The duties that wait for a site, oldest first. Asking again gives them again."""

    items: list[Duty]
    expected: bool = False  # more are to come of rounds that are open: stay


class KeysAnswer(Request):
    """A site's new keys."""

    kind: Literal[DutyKind.KEYS]
    message: Keys
    signature: Signature


class ConfirmAnswer(Request):
    """A site's confirmation of a roster."""

    kind: Literal[DutyKind.CONFIRM]
    message: Confirmation
    signature: Signature


class SignAnswer(Request):
    """A committee member's signature of a round's survivors."""

    kind: Literal[DutyKind.SIGN]
    message: Survivors
    signature: Signature


class OpenAnswer(Request):
    """A committee member's shares."""

    kind: Literal[DutyKind.OPEN]
    message: Opening
    signature: Signature


DutyAnswer = Annotated[
    KeysAnswer | ConfirmAnswer | SignAnswer | OpenAnswer, Field(discriminator="kind")
]


class DutyReceipt(Response):
    """The hub's word that an answer is stored. The same answer again gets the same receipt."""

    duty_id: UUID
    received_at: datetime


class DutyRefusal(Request):
    """Why a site will not do a duty: its own checks failed."""

    reason: str = Field(min_length=1, max_length=MAX_REFUSAL)


class RosterView(Response):
    """A roster as its members check it."""

    digest: Digest
    body: str  # canonical JSON of a hansa_core.secagg.messages.Roster
    confirmations: list[SignedConfirmation]  # all members', once it is in force


class SecureWork(Response):
    """What a task of a secure run adds: the round to be bound to, and the tensors' ranges."""

    header: Header
    ranges: tuple[float, ...]


class SecureRound(Response):
    """How far a round of a secure run is."""

    roster: Digest | None  # None while it is being set up
    roster_version: int | None
    members: int
    participants: int
    survivors: int | None
    signatures: int  # that came, of `quorum`
    quorum: int
    openings: int  # that came, of `threshold`
    threshold: int
    waiting_for: list[str]  # sites whose duties of the phase in hand are open
    refusals: dict[str, str]  # site name to its reason
    transcript: Digest | None
    expires_at: datetime | None  # of the phase in hand
