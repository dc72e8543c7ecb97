"""What a lying hub and corrupt members make up, and the numbers of tiny rounds."""

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import numpy as np

from hansa_core.secagg import hub
from hansa_core.secagg.messages import (
    Header,
    Opening,
    Positions,
    SurvivorSignature,
    ranges_digest,
)
from hansa_core.secagg.ranges import first_ranges
from hansa_core.secagg.rosters import vector_layout
from hansa_core.secagg.seals import SEAL_SIZE
from hansa_core.secagg.shamir import SHARE_SIZE
from hansa_core.secagg.sums import MaskedFile, SumJob, sum_words
from hansa_core.secagg.vectors import VectorLayout
from hansa_core.signing import decode_base64, encode_base64
from hansa_core.states import RoundKind
from hansa_core.tensors import bytes_reader
from tests.property.secure_model import LAYOUT, Force, Round, Words
from tests.unit.core.secagg.parties import DIGEST, RUN, terms

TERMS = terms()
DEADLINE = datetime(2030, 1, 1, tzinfo=UTC)

SIGNATURE_CHEATS = (
    "too few signatures",
    "signatures of another set",
    "a borrowed signature",
    "signatures of another round",
)
SEAL_CHEATS = (
    "seals of another round",
    "seals of another member",
    "seals in another order",
    "another set than was signed",
)

Request = tuple[Positions, Sequence[SurvivorSignature], bytes]
"""What an opening is asked with: survivors, signatures, seals."""


def vector_of(header: Header) -> VectorLayout:
    """Return what the words of a round's updates are."""
    sites = len(header.participants)
    return vector_layout(TERMS, LAYOUT, {}, sites=sites, kind=RoundKind.TRAIN)


def ranges_of(header: Header) -> tuple[float, ...]:
    """Return the ranges of a round's tensors."""
    return first_ranges(vector_of(header), TERMS.quantiser)


def header_of(force: Force, places: Sequence[int], number: int, retry: int) -> Header:
    """Return a round's header."""
    made = Header(
        run_id=RUN,
        round_id=UUID(int=number),
        round_number=number,
        retry=retry,
        kind=RoundKind.TRAIN,
        roster=force.group.digest,
        participants=tuple(places),
        checkpoint=DIGEST,
        slots={},
        ranges=DIGEST,
        deadline_at=DEADLINE,
    )
    return made.model_copy(update={"ranges": ranges_digest(ranges_of(made))})


def unmasked(held: Round, survivors: Positions, seeds: hub.Seeds) -> Words:
    """Return the words of a sum, opened."""
    vector = vector_of(held.header)
    files = tuple(MaskedFile(bytes_reader(held.masked[it]), 0) for it in survivors)
    job = SumJob(vector, TERMS, ranges_of(held.header), files, seeds)
    return np.concatenate([tile.copy() for _, tile in sum_words(job, 0, vector.words)])


def corrupt_openings(held: Round, survivors: Positions, *, lying: bool) -> dict[int, Opening]:
    """Return what corrupt members open: their shares, the first of them changed where they lie."""
    openings: dict[int, Opening] = {}
    for place in held.force.corrupt:
        opening = held.force.members[place].open_survivors(
            held.group,
            held.header,
            survivors,
            held.signatures(survivors),
            held.bundle(survivors, place),
        )
        if lying:
            data = bytearray(decode_base64(opening.shares))
            data[SHARE_SIZE - 1] ^= 1
            opening = opening.model_copy(update={"shares": encode_base64(bytes(data))})
        openings[place] = opening
    return openings


def cheated_signatures(
    held: Round, rounds: Sequence[Round], survivors: Positions, how: str, other: int
) -> Sequence[SurvivorSignature] | None:
    """Return signatures that are no quorum's of a set that has one; None: there are none to mix."""
    true = held.signatures(survivors)
    if how == "too few signatures":
        few = true[: held.group.parameters.quorum - 1]
        return [*few, *few]
    if how == "a borrowed signature":
        lost = true[other % len(true)]
        place = (lost.member + 1) % len(held.force.members)
        return [*true, lost.model_copy(update={"member": place})]
    if how == "signatures of another set":
        sets = [it for it in held.signed if it != survivors] or [survivors[:-1]]
        theirs = [it for set_ in sets for it in held.signatures(set_)]
    else:
        theirs = [it for one in _beside(held, rounds) for it in one.signatures(survivors)]
    return [*true[1:], theirs[other % len(theirs)]] if theirs else None


def cheated_seals(
    held: Round, rounds: Sequence[Round], survivors: Positions, member: int, how: str, other: int
) -> bytes | None:
    """Return seals that are not those of an opening; None: there are no others."""
    seals = held.bundle(survivors, member)
    if how == "seals in another order":
        return seals[SEAL_SIZE : 2 * SEAL_SIZE] + seals[:SEAL_SIZE] + seals[2 * SEAL_SIZE :]
    if how == "seals of another member":
        count = len(held.force.members)
        return held.bundle(survivors, (member + 1 + other % (count - 1)) % count)
    same = [it for it in _beside(held, rounds) if set(survivors) <= set(it.files)]
    return same[other % len(same)].bundle(survivors, member) if same else None


def cheated(
    held: Round, rounds: Sequence[Round], survivors: Positions, member: int, how: str, other: int
) -> Request | None:
    """Return what no honest member opens; None: there is nothing to make it of."""
    if how == "another set than was signed":
        fewer = survivors[:-1]
        return fewer, held.signatures(survivors), held.bundle(fewer, member)
    true, seals = held.signatures(survivors), held.bundle(survivors, member)
    if how in SIGNATURE_CHEATS:
        signatures = cheated_signatures(held, rounds, survivors, how, other)
        return None if signatures is None else (survivors, signatures, seals)
    lies = cheated_seals(held, rounds, survivors, member, how, other)
    return None if lies is None else (survivors, true, lies)


def _beside(held: Round, rounds: Sequence[Round]) -> list[Round]:
    """Return the other rounds of a round's roster."""
    return [it for it in rounds if it is not held and it.group is held.group]
