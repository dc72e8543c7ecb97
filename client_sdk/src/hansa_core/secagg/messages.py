"""What the parties of secure aggregation sign and agree on (docs/secure-aggregation.md).

Every message is a frozen value with one canonical JSON; its digest is the SHA-256 of that, and its
signature (hansa_core.signing) covers it with the purpose named beside each. Bodies that parties
keep or fetch are parsed by `parse`, which takes canonical bytes alone: one message, one digest.

Positions count the members of a roster from 0, by site id. Lists of positions ascend.
"""

import hashlib
from datetime import datetime
from itertools import pairwise
from typing import Annotated, Literal, Self, TypeVar
from uuid import UUID

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator

from hansa_core.canonical import canonical_json
from hansa_core.names import Digest, Name
from hansa_core.problems import CanonicalizationError, EncodingError
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.plans import LEAST_SITES, Terms
from hansa_core.signing import KEY_SIZE, SIGNATURE_SIZE, decode_base64
from hansa_core.states import RoundKind

FORMAT = "hansa-secagg/1"
MAX_MEMBERS = 10_000
MAX_BODY = 64 << 20  # bytes; a transcript of ten thousand sites takes half of it
SEED_SIZE = 32  # bytes, of seeds and of nonces


def _base64_of(size: int) -> AfterValidator:
    def check(text: str) -> str:
        try:
            decode_base64(text, size=size)
        except EncodingError as error:
            raise ValueError(str(error)) from error
        return text

    return AfterValidator(check)


def _ascend(positions: tuple[int, ...]) -> tuple[int, ...]:
    if any(later <= earlier for earlier, later in pairwise(positions)):
        raise ValueError("positions have to ascend, each named once")
    return positions


Key = Annotated[str, Field(max_length=64), _base64_of(KEY_SIZE)]  # url-safe base64, no padding
Seed = Annotated[str, Field(max_length=64), _base64_of(SEED_SIZE)]
Signature = Annotated[str, Field(max_length=128), _base64_of(SIGNATURE_SIZE)]
Position = Annotated[int, Field(ge=0, lt=MAX_MEMBERS)]
Positions = Annotated[tuple[Position, ...], Field(max_length=MAX_MEMBERS), AfterValidator(_ascend)]


class Message(BaseModel):
    """The base of all of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    def body(self) -> bytes:
        """Return the canonical JSON: what is signed, hashed, kept and sent."""
        return canonical_json(self.model_dump(mode="json"))

    def digest(self) -> str:
        """Return the SHA-256 of the body, lower-case hex."""
        return hashlib.sha256(self.body()).hexdigest()


class Keys(Message):
    """A site's keys for one version of a run's roster. Signed with purpose `secagg-keys`."""

    run_id: UUID
    site_id: UUID
    version: int = Field(ge=1)
    exchange_key: Key  # X25519
    commitment: Digest  # SHA-256 of the nonce that the confirmation reveals


class Member(Message):
    """One line of a roster."""

    site_id: UUID
    site_name: Name
    identity_key: Key  # Ed25519
    exchange_key: Key
    commitment: Digest
    signature: Signature  # of the member's Keys, by the identity key


class Roster(Message):
    """Who takes part in a run's secure sums, and on which terms."""

    format: Literal["hansa-secagg/1"] = FORMAT
    federation_id: UUID
    run_id: UUID
    version: int = Field(ge=1)
    plan_digest: Digest
    terms: Terms
    members: tuple[Member, ...] = Field(min_length=LEAST_SITES, max_length=MAX_MEMBERS)

    @model_validator(mode="after")
    def _check(self) -> Self:
        ids = [member.site_id for member in self.members]
        if any(later <= earlier for earlier, later in pairwise(ids)):
            raise ValueError("members have to be in the order of their site ids, each named once")
        for kind in ("identity_key", "exchange_key"):
            if len({getattr(member, kind) for member in self.members}) != len(ids):
                raise ValueError(f"two members have the same {kind}")
        return self

    def position(self, site_id: UUID) -> int | None:
        """Return where a site stands, or None."""
        return next((i for i, it in enumerate(self.members) if it.site_id == site_id), None)

    def keys_of(self, member: Member) -> Keys:
        """Return the message that a member signed to get into this roster."""
        return Keys(
            run_id=self.run_id,
            site_id=member.site_id,
            version=self.version,
            exchange_key=member.exchange_key,
            commitment=member.commitment,
        )


class Confirmation(Message):
    """A member's agreement to a roster. Signed with purpose `secagg-roster`."""

    run_id: UUID
    site_id: UUID
    roster: Digest
    nonce: Seed  # what the member committed to


class SignedConfirmation(Message):
    """A confirmation as it is kept with its roster."""

    confirmation: Confirmation
    signature: Signature


class Header(Message):
    """What the sites of one round have to agree about; its digest is bound into every mask."""

    format: Literal["hansa-secagg/1"] = FORMAT
    run_id: UUID
    round_id: UUID
    round_number: int = Field(ge=1)
    retry: int = Field(ge=0)
    kind: RoundKind
    roster: Digest
    participants: Positions
    checkpoint: Digest  # the model that is sent out
    slots: dict[Name, Digest]  # of the server's that go with it
    ranges: Digest  # SHA-256 of the canonical JSON of the tensors' ranges
    deadline_at: datetime  # of the uploads


class Survivors(Message):
    """The uploads that a round's sum is of. Signed with purpose `secagg-survivors`."""

    round: Digest  # of the header
    survivors: Positions


class SurvivorSignature(Message):
    """One committee member's signature of a Survivors."""

    member: Position
    signature: Signature


class Opening(Message):
    """One committee member's shares. Signed with purpose `secagg-opening`.

    `shares`: for each survivor in order, its share of the survivor's own seed, then of the pair
    seeds of that survivor with each neighbour that dropped out, by position; 33 bytes each.
    """

    round: Digest
    survivors: Digest
    member: Position
    shares: str = Field(max_length=MAX_BODY)  # url-safe base64, no padding


class Upload(Message):
    """What a transcript says of one survivor's upload."""

    member: Position
    manifest: Digest  # SHA-256 of the signed manifest
    masked: Digest  # of the masked words' file
    seals: Digest  # of the file of seals


class PairSeed(Message):
    """The seed of one survivor with one participant that dropped out."""

    survivor: Position
    dropped: Position
    seed: Seed


class Transcript(Message):
    """All that it takes to take the masks off a round's sum again: public, and harmless."""

    format: Literal["hansa-secagg/1"] = FORMAT
    header: Header
    ranges: tuple[float, ...]
    survivors: Positions
    signatures: tuple[SurvivorSignature, ...]
    uploads: tuple[Upload, ...]  # of the survivors, in order
    own: tuple[Seed, ...]  # of the survivors, in order
    pairs: tuple[PairSeed, ...]
    openers: Positions  # committee members whose shares were used
    wrong: Positions  # those whose shares were not what they were given


MessageT = TypeVar("MessageT", bound=Message)


def parse(kind: type[MessageT], body: bytes, *, digest: str | None = None) -> MessageT:
    """Return the message that these canonical bytes are.

    Raises SecaggError for bytes that are too many, no such message, not canonical, or not those of
    `digest`.
    """
    what = kind.__name__.lower()
    if len(body) > MAX_BODY:
        raise SecaggError(f"the {what} has {len(body)} bytes, wanted at most {MAX_BODY}")
    if digest is not None and (seen := hashlib.sha256(body).hexdigest()) != digest:
        raise SecaggError(f"the {what} has SHA-256 {seen}, wanted {digest}")
    try:
        message = kind.model_validate_json(body)
        canonical = message.body() == body
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "its body"
        raise SecaggError(f"the {what} is malformed: {where}: {first['msg']}") from error
    except (ValueError, RecursionError, CanonicalizationError) as error:
        raise SecaggError(f"the {what} is no canonical JSON: {error}") from error
    if not canonical:
        raise SecaggError(f"the {what} is not the canonical JSON of what it says")
    return message


def ranges_digest(ranges: tuple[float, ...]) -> str:
    """Return what a header says of the tensors' ranges."""
    return hashlib.sha256(canonical_json(list(ranges))).hexdigest()
