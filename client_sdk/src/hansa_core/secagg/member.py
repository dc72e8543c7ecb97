"""A committee member's side of the protocol, without I/O: what it signs, and what it opens.

Whoever calls keeps, flushed before it is sent, which survivors the member signed for a round: it
signs one set a round, for ever.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from hansa_core.secagg.errors import SealError, SecaggError, SecaggRefusedError
from hansa_core.secagg.graph import survey
from hansa_core.secagg.keys import pair_secrets, seal_key
from hansa_core.secagg.messages import Header, Opening, Survivors, SurvivorSignature
from hansa_core.secagg.parameters import least_degree_of
from hansa_core.secagg.rosters import (
    Group,
    check_header,
    graph_of,
    least_survivors_of,
    verify_message,
)
from hansa_core.secagg.seals import SEAL_SIZE, unseal
from hansa_core.secagg.site import OwnKeys
from hansa_core.signing import encode_base64

Graph = Mapping[int, Sequence[int]]


def check_survivors(group: Group, header: Header, survivors: tuple[int, ...]) -> Survivors:
    """Return the message to sign for a round's survivors.

    Raises:
        SecaggError: the header is not of this group.
        SecaggRefusedError: too few of them, strangers among them, or a graph that hides them badly.
    """
    check_header(group, header)
    strangers = sorted(set(survivors) - set(header.participants))
    if strangers:
        raise SecaggRefusedError(f"survivors {strangers[:8]} are no participants of the round")
    least = least_survivors_of(group, header)
    if len(survivors) < least:
        raise SecaggRefusedError(
            f"a sum of {len(survivors)} of {len(header.participants)} updates, wanted {least}"
        )
    degree, connected = survey(graph_of(group, header), survivors)
    wanted = least_degree_of(len(header.participants))
    if degree < wanted or not connected:
        raise SecaggRefusedError(
            f"a survivor has {degree} surviving neighbours, wanted {wanted}, and their graph is "
            f"{'connected' if connected else 'cut in two'}: it would not hide them"
        )
    return Survivors(round=header.digest(), survivors=survivors)


def check_quorum(
    group: Group,
    header: Header,
    survivors: tuple[int, ...],
    signatures: Sequence[SurvivorSignature],
) -> None:
    """Raise SecaggRefusedError unless a quorum of the committee signed exactly these survivors."""
    message = check_survivors(group, header, survivors)
    signers: set[int] = set()
    for it in signatures:
        try:
            group.seat(it.member)
            verify_message(message, it.signature, group.identity_key(it.member))
        except SecaggError as error:
            raise SecaggRefusedError(
                f"a signature of the survivors by {it.member}: {error}"
            ) from error
        signers.add(it.member)
    if len(signers) < group.parameters.quorum:
        raise SecaggRefusedError(
            f"{len(signers)} of the committee signed these survivors, "
            f"wanted {group.parameters.quorum} of {len(group.committee)}"
        )


def opened_pairs(graph: Graph, survivors: Sequence[int]) -> dict[int, tuple[int, ...]]:
    """Return, of each survivor, the neighbours that dropped out: whose pair seeds are opened."""
    alive = set(survivors)
    return {it: tuple(other for other in graph[it] if other not in alive) for it in survivors}


def seed_index(graph: Graph, position: int, other: int) -> int:
    """Return where a pair's seed stands among those that `position` has sealed; its own is 0."""
    return 1 + list(graph[position]).index(other)


def open_sum(
    group: Group,
    header: Header,
    *,
    site_id: UUID,
    own: OwnKeys,
    survivors: tuple[int, ...],
    signatures: Sequence[SurvivorSignature],
    seals: bytes,
) -> Opening:
    """Return the member's shares of what takes the masks off the survivors' sum, nothing else.

    `seals`: 49 bytes each, in the order of the opening.

    Raises:
        SecaggError: the header is not of this group, or the site not in its committee.
        SecaggRefusedError: no quorum signed these survivors, or the seals are of something else.
    """
    check_quorum(group, header, survivors, signatures)
    position = group.roster.position(site_id)
    if position is None:
        raise SecaggRefusedError("this site is no member of the roster")
    group.seat(position)
    graph = graph_of(group, header)
    wanted = [
        (sender, index)
        for sender, lost in opened_pairs(graph, survivors).items()
        for index in (0, *(seed_index(graph, sender, other) for other in lost))
    ]
    if len(seals) != len(wanted) * SEAL_SIZE:
        raise SecaggRefusedError(
            f"{len(seals)} bytes of seals came, wanted {len(wanted)} of {SEAL_SIZE} each"
        )
    round_digest = bytes.fromhex(header.digest())
    secrets = pair_secrets(
        own.exchange_private,
        {sender: group.exchange_key(sender) for sender in survivors},
        group.digest_bytes,
        position,
    )
    keys = {
        sender: seal_key(secret, round_digest, sender, position)
        for sender, secret in secrets.items()
    }
    shares = bytearray()
    for place, (sender, index) in enumerate(wanted):
        sealed = seals[place * SEAL_SIZE : (place + 1) * SEAL_SIZE]
        try:
            shares += unseal(sealed, keys[sender], round_digest, sender, position, index)
        except SealError as error:
            raise SecaggRefusedError(
                f"the seal of seed {index} of member {sender} is not one for this round and "
                f"member: {error}"
            ) from error
    return Opening(
        round=header.digest(),
        survivors=Survivors(round=header.digest(), survivors=survivors).digest(),
        member=position,
        shares=encode_base64(bytes(shares)),
    )
