"""What every party derives alike from a roster and a round's header, and the checks they share.

A roster is in force when all of its members have confirmed it. Their nonces, which they committed
to before anybody saw another's, seed the graph and the committee: nobody chose them.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from hansa_core.dtypes import DType
from hansa_core.layouts import Layout, TensorShape
from hansa_core.problems import CoreError
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.graph import neighbours, neighbours_of
from hansa_core.secagg.messages import (
    Confirmation,
    Header,
    Keys,
    Member,
    Message,
    Opening,
    Roster,
    SignedConfirmation,
    Survivors,
)
from hansa_core.secagg.packing import Packing
from hansa_core.secagg.parameters import (
    LEAST_MEMBERS,
    Parameters,
    committee_of,
    least_survivors,
    parameters_of,
)
from hansa_core.secagg.plans import Terms
from hansa_core.secagg.seals import seals_size
from hansa_core.secagg.vectors import VectorLayout
from hansa_core.signing import Purpose, decode_base64, verify
from hansa_core.states import RoundKind

MASKED = "masked"  # the one tensor of an uploaded update
SEALS = "seals"  # the part that goes with it, and its one tensor

PURPOSES: Mapping[type[Message], Purpose] = {
    Keys: Purpose.SECAGG_KEYS,
    Confirmation: Purpose.SECAGG_ROSTER,
    Survivors: Purpose.SECAGG_SURVIVORS,
    Opening: Purpose.SECAGG_OPENING,
}

_SEED = b"hansa/secagg/1 seed\n"


@dataclass(frozen=True, slots=True)
class Group:
    """A roster in force, with what follows from it."""

    roster: Roster
    digest: str
    parameters: Parameters
    seed: bytes  # of graphs and of the committee
    committee: tuple[int, ...]  # positions, ascending

    @property
    def digest_bytes(self) -> bytes:
        """The roster's digest as keys are bound to it."""
        return bytes.fromhex(self.digest)

    def exchange_key(self, position: int) -> bytes:
        """Return a member's X25519 public key."""
        return decode_base64(self.roster.members[position].exchange_key)

    def identity_key(self, position: int) -> bytes:
        """Return a member's Ed25519 public key."""
        return decode_base64(self.roster.members[position].identity_key)

    def seat(self, position: int) -> int:
        """Return a member's place in the committee, from 0. Raises SecaggError: it has none."""
        if position not in self.committee:
            raise SecaggError(
                f"member {position} is not in the committee {list(self.committee)[:16]}"
            )
        return self.committee.index(position)


def verify_message(message: Message, signature: str, identity_key: bytes) -> None:
    """Raise SecaggError unless `signature` is the key's of this message."""
    try:
        verify(identity_key, PURPOSES[type(message)], message.body(), decode_base64(signature))
    except CoreError as error:
        raise SecaggError(f"a {type(message).__name__.lower()} message: {error}") from error


def check_members(roster: Roster) -> None:
    """Raise SecaggError unless every member signed its keys for this roster."""
    for member in roster.members:
        check_member(roster, member)


def check_member(roster: Roster, member: Member) -> None:
    """Raise SecaggError unless the member signed its keys for this roster."""
    try:
        verify_message(roster.keys_of(member), member.signature, decode_base64(member.identity_key))
    except SecaggError as error:
        raise SecaggError(
            f"the keys of member {member.site_name} in the roster: {error}"
        ) from error


def nonce_commitment(nonce: bytes) -> str:
    """Return what a member's keys say of its nonce."""
    return hashlib.sha256(nonce).hexdigest()


def check_confirmation(roster: Roster, digest: str, signed: SignedConfirmation) -> int:
    """Return the position of the member whose word for the roster this is, with its nonce.

    Raises SecaggError if it is nobody's.
    """
    said = signed.confirmation
    position = roster.position(said.site_id)
    if position is None:
        raise SecaggError(f"site {said.site_id} confirms a roster that it is no member of")
    member = roster.members[position]
    if (said.run_id, said.roster) != (roster.run_id, digest):
        raise SecaggError(
            f"member {member.site_name} confirms roster {said.roster} of run {said.run_id}, "
            f"wanted {digest} of {roster.run_id}"
        )
    verify_message(said, signed.signature, decode_base64(member.identity_key))
    if nonce_commitment(decode_base64(said.nonce)) != member.commitment:
        raise SecaggError(
            f"the nonce of member {member.site_name} is not the one that it committed to"
        )
    return position


def open_group(roster: Roster, confirmations: Sequence[SignedConfirmation]) -> Group:
    """Return what follows from a roster that all its members have confirmed.

    Raises SecaggError for a signature or nonce that is wrong, or naming who did not confirm.
    """
    check_members(roster)
    digest = roster.digest()
    nonces: dict[int, bytes] = {}
    for signed in confirmations:
        position = check_confirmation(roster, digest, signed)
        nonces[position] = decode_base64(signed.confirmation.nonce)
    missing = [
        member.site_name for place, member in enumerate(roster.members) if place not in nonces
    ]
    if missing:
        raise SecaggError(f"roster {digest} is not confirmed by {', '.join(missing[:8])}")
    hasher = hashlib.sha256(_SEED + bytes.fromhex(digest))
    for position in sorted(nonces):
        hasher.update(nonces[position])
    seed = hasher.digest()
    count = len(roster.members)
    return Group(
        roster=roster,
        digest=digest,
        parameters=parameters_of(count),
        seed=seed,
        committee=committee_of(count, seed),
    )


def check_header(group: Group, header: Header) -> None:
    """Raise SecaggError unless a round's header is of this group."""
    roster = group.roster
    if (header.run_id, header.roster) != (roster.run_id, group.digest):
        raise SecaggError(
            f"the round is of roster {header.roster} of run {header.run_id}, "
            f"wanted {group.digest} of {roster.run_id}"
        )
    count = len(header.participants)
    if count < LEAST_MEMBERS:
        raise SecaggError(f"the round has {count} participants, wanted at least {LEAST_MEMBERS}")
    if header.participants[-1] >= len(roster.members):
        raise SecaggError(
            f"participant {header.participants[-1]} of the round is none of the "
            f"{len(roster.members)} members"
        )


def graph_of(group: Group, header: Header) -> dict[int, tuple[int, ...]]:
    """Return each participant's neighbours, by position."""
    return neighbours(header.participants, group.seed)


def near_of(group: Group, header: Header, position: int) -> tuple[int, ...]:
    """Return one participant's neighbours, by position."""
    return neighbours_of(position, header.participants, group.seed)


def least_survivors_of(group: Group, header: Header) -> int:
    """Return how many uploads a sum of this round has to be of."""
    return least_survivors(len(header.participants), group.roster.terms.min_survivors)


def vector_layout(
    terms: Terms, uploaded: Layout, parts: Mapping[str, Layout], *, sites: int, kind: RoundKind
) -> VectorLayout:
    """Return what the words of one update are, in a round of `sites` participants.

    `uploaded` and `parts`: what a site would upload if nothing were masked; an evaluation has
    neither tensors nor scalars. Raises SecaggError.
    """
    packing = Packing(lanes=terms.quantiser.lanes, sites=sites)
    if kind is RoundKind.EVALUATE:
        return VectorLayout(Layout(()), {}, (), (), tuple(terms.metrics.evaluation), packing)
    return VectorLayout(
        uploaded,
        dict(parts),
        tuple(terms.scalars),
        tuple(terms.metrics.train),
        tuple(terms.metrics.evaluation),
        packing,
    )


def masked_layout(vector: VectorLayout) -> Layout:
    """Return the layout of an update's file: its masked words, read as unsigned."""
    return Layout((TensorShape(MASKED, DType.I64, (vector.words,)),))


def seals_layout(neighbours: int, committee: int) -> Layout:
    """Return the layout of the file of seals that goes with an update."""
    return Layout((TensorShape(SEALS, DType.U8, (seals_size(neighbours, committee),)),))
