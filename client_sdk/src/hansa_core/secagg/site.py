"""A site's side of the protocol, without I/O: keys, the roster, and masking its own words.

Whoever calls keeps what has to outlive a crash, flushed before anything is sent: `OwnKeys` before
the keys' message, and that a round was used, with the digests of its files, before the upload. A
round's words are masked once; a retry sends the same bytes.
"""

from collections.abc import Callable
from dataclasses import dataclass
from secrets import token_bytes
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from hansa_core.secagg.dealing import deal
from hansa_core.secagg.errors import SecaggRefusedError
from hansa_core.secagg.keys import (
    commitment,
    exchange_public,
    generate_exchange_key,
    mask_seed,
    pair_secrets,
    seal_key,
)
from hansa_core.secagg.masks import MaskStream
from hansa_core.secagg.messages import SEED_SIZE, Confirmation, Header, Keys, Member, Roster
from hansa_core.secagg.plans import Terms
from hansa_core.secagg.rosters import (
    Group,
    check_header,
    check_members,
    near_of,
    nonce_commitment,
)
from hansa_core.secagg.seals import seal_row, write_seals
from hansa_core.signing import encode_base64

Trust = Callable[[Member], str | None]
"""Says why a member's identity key is not to be trusted; None: it is."""


@dataclass(frozen=True, slots=True)
class OwnKeys:
    """What a site keeps to itself of one version of a roster."""

    exchange_private: bytes
    nonce: bytes

    def __repr__(self) -> str:
        return "OwnKeys(...)"  # not the keys


def make_keys(*, run_id: UUID, site_id: UUID, version: int) -> tuple[OwnKeys, Keys]:
    """Return new keys for a version of a roster: what to keep, and what to sign and send."""
    own = OwnKeys(generate_exchange_key(), token_bytes(SEED_SIZE))
    return own, keys_message(own, run_id=run_id, site_id=site_id, version=version)


def keys_message(own: OwnKeys, *, run_id: UUID, site_id: UUID, version: int) -> Keys:
    """Return what a site says of its keys, the same whenever it is asked."""
    return Keys(
        run_id=run_id,
        site_id=site_id,
        version=version,
        exchange_key=encode_base64(exchange_public(own.exchange_private)),
        commitment=nonce_commitment(own.nonce),
    )


def check_roster(
    roster: Roster,
    *,
    site_id: UUID,
    own: OwnKeys,
    identity_key: bytes,
    terms: Terms | None,
    trust: Trust,
) -> None:
    """Raise SecaggRefusedError unless the site may confirm a roster.

    `identity_key`: the site's own public key. `terms`: what it was asked to make keys for; None:
    that was forgotten.
    """
    position = roster.position(site_id)
    if position is None:
        raise SecaggRefusedError(f"roster version {roster.version} leaves this site out")
    mine = roster.members[position]
    wanted = keys_message(own, run_id=roster.run_id, site_id=site_id, version=roster.version)
    if roster.keys_of(mine) != wanted or mine.identity_key != encode_base64(identity_key):
        raise SecaggRefusedError(
            f"roster version {roster.version} lists other keys for this site than it made"
        )
    if terms is not None and roster.terms != terms:
        raise SecaggRefusedError(
            f"roster version {roster.version} has other terms than this site made its keys for"
        )
    check_members(roster)
    doubts = [
        f"{member.site_name}: {doubt}"
        for member in roster.members
        if member.site_id != site_id and (doubt := trust(member)) is not None
    ]
    if doubts:
        raise SecaggRefusedError(
            f"roster version {roster.version} has members that this site does not trust: "
            + "; ".join(doubts[:8])
        )


def confirm(roster: Roster, *, site_id: UUID, own: OwnKeys) -> Confirmation:
    """Return the site's word for a roster that it has checked."""
    return Confirmation(
        run_id=roster.run_id,
        site_id=site_id,
        roster=roster.digest(),
        nonce=encode_base64(own.nonce),
    )


def mask(
    group: Group,
    header: Header,
    *,
    site_id: UUID,
    own: OwnKeys,
    words: NDArray[np.uint64],
    seed: bytes,
) -> bytes:
    """Mask an update's words in place, once; return the file of seals that goes with it.

    `seed`: 32 fresh random bytes, the update's own (b_i).

    Raises:
        SecaggError: the header is not of this group.
        SecaggRefusedError: the site does not take part in the round.
    """
    check_header(group, header)
    position = group.roster.position(site_id)
    if position is None or position not in header.participants:
        raise SecaggRefusedError(f"round {header.round_number} leaves this site out")
    round_digest = bytes.fromhex(header.digest())
    near = near_of(group, header, position)
    others = {other: group.exchange_key(other) for other in {*near, *group.committee}}
    secrets = pair_secrets(own.exchange_private, others, group.digest_bytes, position)
    pairs = [mask_seed(secrets[other], round_digest) for other in near]
    seeds = [seed, *pairs]
    lower = sum(other < position for other in near)  # of a pair, the lower adds and the higher
    stream = MaskStream(  # subtracts
        [seed, *pairs[lower:]], pairs[:lower], suite=group.roster.terms.suite
    )
    stream.apply(words)
    dealt = deal(seeds, threshold=group.parameters.threshold, shares=len(group.committee))
    seals = [
        seal_row(
            shares,
            seal_key(secrets[member], round_digest, position, member),
            round_digest,
            position,
            member,
        )
        for member, shares in zip(group.committee, dealt, strict=True)
    ]
    return write_seals([commitment(round_digest, it) for it in seeds], seals)
