"""The hub's side of the protocol, without I/O: rosters, survivors, and the seeds of a sum's masks.

The hub is trusted with none of this: whatever it makes up, sites and members check. What it checks
itself is there to find mistakes early, and to name who made them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Protocol
from uuid import UUID

from hansa_core.problems import EncodingError
from hansa_core.secagg.errors import SecaggError, ShareError
from hansa_core.secagg.keys import commitment
from hansa_core.secagg.member import Graph, check_quorum, opened_pairs, seed_index
from hansa_core.secagg.messages import (
    Header,
    Member,
    Opening,
    PairSeed,
    Roster,
    Survivors,
    SurvivorSignature,
    Transcript,
    Upload,
    ranges_digest,
)
from hansa_core.secagg.plans import Terms
from hansa_core.secagg.rosters import Group, check_header, check_members, graph_of
from hansa_core.secagg.seals import SealsFile
from hansa_core.secagg.shamir import SHARE_SIZE, agreed_secrets, recover
from hansa_core.signing import decode_base64, encode_base64


class UploadSeals(Protocol):
    """One upload's file of seals, as SealsFile reads it, wherever it lies."""

    @property
    def commitments(self) -> tuple[bytes, ...]:
        """Of the own seed, then of the pairs'."""
        ...

    def seal(self, member_index: int, seed_index: int) -> bytes:
        """Return the seal for the committee's member `member_index` (from 0) of one seed."""
        ...


Seals = Mapping[int, UploadSeals]
"""The files of seals of a round's uploads, by position."""


@dataclass(frozen=True, slots=True)
class Seeds:
    """What takes the masks off a sum."""

    own: tuple[bytes, ...]  # of the survivors, in order
    pairs: tuple[tuple[int, int, bytes], ...]  # (survivor, dropped, seed)
    openers: tuple[int, ...]  # members whose shares came
    wrong: tuple[int, ...]  # those of them whose shares were not all right


def assemble_roster(
    *,
    federation_id: UUID,
    run_id: UUID,
    version: int,
    plan_digest: str,
    terms: Terms,
    members: Sequence[Member],
) -> Roster:
    """Return the roster of these members, whose keys are checked. Raises SecaggError."""
    roster = Roster(
        federation_id=federation_id,
        run_id=run_id,
        version=version,
        plan_digest=plan_digest,
        terms=terms,
        members=tuple(sorted(members, key=lambda member: member.site_id)),
    )
    check_members(roster)
    return roster


def open_seals(group: Group, header: Header, files: Mapping[int, bytes]) -> dict[int, SealsFile]:
    """Return the files of seals of uploads, by position. Raises SealError."""
    graph = graph_of(group, header)
    return {
        position: SealsFile(
            content, neighbours=len(graph[position]), committee=len(group.committee)
        )
        for position, content in files.items()
    }


def agreeing(group: Group, header: Header, seals: Seals) -> tuple[tuple[int, ...], dict[int, str]]:
    """Return the uploads whose pairs committed to the same seeds, and why others are left out.

    A site that was sent another model, or works for another round, has other seeds with everybody:
    who disagrees with most goes first, so that it takes none with it.
    """
    graph = graph_of(group, header)
    against = {
        one: {
            other
            for other in graph[one]
            if other in seals
            and _committed(graph, seals, one, other) != _committed(graph, seals, other, one)
        }
        for one in seals
    }
    left_out: dict[int, str] = {}
    while True:
        worst = max(against, key=lambda one: (len(against[one]), one), default=None)
        if worst is None or not against[worst]:
            return tuple(sorted(against)), left_out
        left_out[worst] = (
            f"its masks fit those of {len(graph[worst]) - len(against[worst])} of "
            f"{len(graph[worst])} neighbours: it works from another model or round"
        )
        for other in against.pop(worst):
            against[other].discard(worst)


def bundle(
    group: Group, header: Header, survivors: Sequence[int], member: int, seals: Seals
) -> bytes:
    """Return a committee member's seals of what has to be opened, in the order of an opening."""
    graph, seat = graph_of(group, header), group.seat(member)
    return b"".join(
        seals[sender].seal(seat, index)
        for sender, lost in opened_pairs(graph, survivors).items()
        for index in (0, *(seed_index(graph, sender, other) for other in lost))
    )


def check_opening(
    group: Group, header: Header, survivors: tuple[int, ...], opening: Opening
) -> None:
    """Raise SecaggError unless an opening is of this round, these survivors, and whole."""
    group.seat(opening.member)
    signed = Survivors(round=header.digest(), survivors=survivors).digest()
    if (opening.round, opening.survivors) != (header.digest(), signed):
        raise SecaggError(
            f"the opening is of survivors {opening.survivors} of round {opening.round}, "
            f"wanted {signed} of {header.digest()}"
        )
    _shares_of(opening, _count(graph_of(group, header), survivors))


def reconstruct(
    group: Group,
    header: Header,
    survivors: tuple[int, ...],
    openings: Sequence[Opening],
    seals: Seals,
) -> Seeds:
    """Return the seeds, each checked against its commitment.

    Wrong shares are found and left out, as far as there are enough others.

    Raises:
        SecaggError: an opening is of something else.
        ShareError: more openings are needed.
    """
    for opening in openings:
        check_opening(group, header, survivors, opening)
    graph = graph_of(group, header)
    round_digest = bytes.fromhex(header.digest())
    count = _count(graph, survivors)
    shares = {group.seat(it.member) + 1: _shares_of(it, count) for it in openings}
    agreed = agreed_secrets(shares, group.parameters.threshold)
    wrong: set[int] = set()
    own: list[bytes] = []
    pairs: list[tuple[int, int, bytes]] = []
    place = 0

    def next_seed(committed: bytes) -> bytes:
        nonlocal place
        likely, at = agreed[place], place
        place += 1
        accept = partial(_is_committed, round_digest, committed)
        if likely is not None and accept(likely):
            return likely
        here = {x: row[at] for x, row in shares.items()}
        trusted = {x: share for x, share in here.items() if x not in wrong}  # spares a decoding
        try:
            seed, liars = recover(trusted, group.parameters.threshold, accept)
        except ShareError:
            seed, liars = recover(here, group.parameters.threshold, accept)
        wrong.update(liars)
        return seed

    for sender, lost in opened_pairs(graph, survivors).items():
        commitments = seals[sender].commitments
        own.append(next_seed(commitments[0]))
        for other in lost:
            seed = next_seed(commitments[seed_index(graph, sender, other)])
            pairs.append((sender, other, seed))
    return Seeds(
        own=tuple(own),
        pairs=tuple(pairs),
        openers=tuple(sorted(it.member for it in openings)),
        wrong=tuple(sorted(group.committee[x - 1] for x in wrong)),
    )


def write_transcript(
    header: Header,
    ranges: tuple[float, ...],
    survivors: tuple[int, ...],
    signatures: Sequence[SurvivorSignature],
    uploads: Sequence[Upload],
    seeds: Seeds,
) -> Transcript:
    """Return the public account of how a sum was opened."""
    return Transcript(
        header=header,
        ranges=ranges,
        survivors=survivors,
        signatures=tuple(sorted(signatures, key=lambda it: it.member)),
        uploads=tuple(sorted(uploads, key=lambda it: it.member)),
        own=tuple(encode_base64(seed) for seed in seeds.own),
        pairs=tuple(
            PairSeed(survivor=one, dropped=other, seed=encode_base64(seed))
            for one, other, seed in seeds.pairs
        ),
        openers=seeds.openers,
        wrong=seeds.wrong,
    )


def check_transcript(group: Group, transcript: Transcript, seals: Seals | None) -> Seeds:
    """Return the seeds of a transcript that is what the protocol allows.

    `seals`: of the survivors; without them the seeds are not held against their commitments.

    Raises:
        SecaggError: a quorum did not sign, a seed is missing, too many, or not the one that its
            site committed to.
    """
    header, survivors = transcript.header, transcript.survivors
    check_header(group, header)
    check_quorum(group, header, survivors, transcript.signatures)
    if ranges_digest(transcript.ranges) != header.ranges:
        raise SecaggError("the transcript's ranges are not those of the round's header")
    if tuple(it.member for it in transcript.uploads) != survivors:
        raise SecaggError("the transcript's uploads are not those of the survivors")
    graph = graph_of(group, header)
    wanted = [
        (one, other) for one, lost in opened_pairs(graph, survivors).items() for other in lost
    ]
    if [(it.survivor, it.dropped) for it in transcript.pairs] != wanted:
        raise SecaggError(
            "the transcript opens other pairs than those of survivors with sites that dropped out"
        )
    if len(transcript.own) != len(survivors):
        raise SecaggError(
            f"the transcript has {len(transcript.own)} seeds of {len(survivors)} survivors"
        )
    own = tuple(decode_base64(seed) for seed in transcript.own)
    pairs = tuple((it.survivor, it.dropped, decode_base64(it.seed)) for it in transcript.pairs)
    if seals is not None:
        _check_seeds(header, graph, seals, dict(zip(survivors, own, strict=True)), pairs)
    return Seeds(own, pairs, transcript.openers, transcript.wrong)


def _check_seeds(
    header: Header,
    graph: Graph,
    seals: Seals,
    own: Mapping[int, bytes],
    pairs: Sequence[tuple[int, int, bytes]],
) -> None:
    round_digest = bytes.fromhex(header.digest())
    seeds = [(one, 0, seed) for one, seed in own.items()]
    seeds += [(one, seed_index(graph, one, other), seed) for one, other, seed in pairs]
    for one, index, seed in seeds:
        if commitment(round_digest, seed) != seals[one].commitments[index]:
            raise SecaggError(
                f"seed {index} of member {one} in the transcript is not the one it committed to"
            )


def _committed(graph: Graph, seals: Seals, one: int, other: int) -> bytes:
    return seals[one].commitments[seed_index(graph, one, other)]


def _is_committed(round_digest: bytes, committed: bytes, seed: bytes) -> bool:
    return commitment(round_digest, seed) == committed


def _count(graph: Graph, survivors: Sequence[int]) -> int:
    return sum(1 + len(lost) for lost in opened_pairs(graph, survivors).values())


def _shares_of(opening: Opening, count: int) -> list[bytes]:
    try:
        data = decode_base64(opening.shares, size=count * SHARE_SIZE)
    except EncodingError as error:
        raise SecaggError(f"the opening of member {opening.member}: {error}") from error
    return [data[at : at + SHARE_SIZE] for at in range(0, len(data), SHARE_SIZE)]
