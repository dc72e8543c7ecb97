"""Sites that remember what their journals keep, and what a lying hub holds of their rounds."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from secrets import token_bytes
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from hansa_core.layouts import Layout
from hansa_core.secagg import hub
from hansa_core.secagg.errors import SecaggRefusedError
from hansa_core.secagg.member import (
    check_quorum,
    check_survivors,
    open_sum,
    opened_pairs,
    seed_index,
)
from hansa_core.secagg.messages import (
    Header,
    Member,
    Opening,
    Positions,
    Roster,
    SignedConfirmation,
    Survivors,
    SurvivorSignature,
)
from hansa_core.secagg.rosters import Group, graph_of, open_group
from hansa_core.secagg.seals import SEAL_SIZE, SealsFile
from hansa_core.secagg.site import check_roster, mask
from hansa_core.signing import encode_base64, public_key
from tests.unit.core.secagg.parties import Site

Words = NDArray[np.uint64]

KEPT_VERSIONS = 2  # as hansa.secure.journal keeps them
LAYOUT = Layout.of({"w": np.zeros(5, np.float32), "steps": np.zeros(1, np.int64)})


@dataclass(frozen=True, slots=True)
class Deeds:
    """What a site did in one round."""

    header: Header
    upload: tuple[bytes, bytes] | None = None  # masked words, seals
    signed: Positions | None = None
    opened: Positions | None = None


@dataclass
class Party(Site):
    """A site. A corrupt one signs and opens whatever it is shown."""

    corrupt: bool = False
    lines: dict[int, Member] = field(default_factory=dict[int, Member])  # by roster version
    rosters: dict[int, str] = field(default_factory=dict[int, str])  # confirmed, by version
    groups: dict[str, Group] = field(default_factory=dict[str, Group])  # by roster digest
    rounds: dict[str, Deeds] = field(default_factory=dict[str, Deeds])  # by round digest

    @property
    def journal(self) -> tuple[object, ...]:
        """All that the site remembers."""
        return dict(self.keys), dict(self.lines), dict(self.rosters), dict(self.rounds)

    def line(self, version: int) -> Member:
        """Return the site's line of a roster, the same whenever it is asked."""
        if version not in self.lines:
            if version <= max(self.lines, default=0):
                raise SecaggRefusedError(f"version {version} is older than what this site saw")
            self.lines[version] = self.member(version)
        return self.lines[version]

    def agree(self, roster: Roster, pins: dict[UUID, str]) -> SignedConfirmation:
        """Confirm a roster, one of a version."""
        own = self.keys.get(roster.version)
        if own is None:
            raise SecaggRefusedError(f"this site has no keys for version {roster.version}")
        if not self.corrupt:
            check_roster(
                roster,
                site_id=self.id,
                own=own,
                identity_key=public_key(self.identity),
                terms=roster.terms,
                trust=lambda it: None if pins[it.site_id] == it.identity_key else "another key",
            )
            digest = roster.digest()
            newest = max(self.rosters, default=0)
            if self.rosters.get(roster.version, digest) != digest or newest > roster.version:
                raise SecaggRefusedError("this site confirmed another roster")
        self.rosters[roster.version] = roster.digest()
        return self.word(roster)

    def enter(self, roster: Roster, words: Sequence[SignedConfirmation]) -> Group:
        """Return the group of a roster confirmed here; forget what is two versions old."""
        digest = roster.digest()
        if digest in self.groups:
            return self.groups[digest]
        if self.rosters.get(roster.version) != digest:
            raise SecaggRefusedError("this site did not confirm the round's roster")
        group = open_group(roster, words)
        old_versions = [it for it in self.keys if it <= roster.version - KEPT_VERSIONS]
        for version in [] if self.corrupt else old_versions:
            del self.keys[version], self.lines[version]
            old = self.rosters.pop(version, None)
            self.groups.pop(old or "", None)
            self.rounds = {k: it for k, it in self.rounds.items() if it.header.roster != old}
        self.groups[digest] = group
        return group

    def upload(self, group: Group, header: Header, words: Words) -> tuple[bytes, bytes]:
        """Mask the words in place, once a round."""
        deeds = self._deeds(header)
        if deeds.upload is not None:
            return deeds.upload
        if deeds.signed is not None or deeds.opened is not None:
            raise SecaggRefusedError("this site signed the round's survivors already")
        self._require_one_header(header)
        own = self.keys[group.roster.version]
        seed = token_bytes(32)
        seals = mask(group, header, site_id=self.id, own=own, words=words, seed=seed)
        made = (words.tobytes(), seals)
        self.rounds[header.digest()] = replace(deeds, upload=made)
        return made

    def sign_survivors(
        self, group: Group, header: Header, survivors: Positions
    ) -> SurvivorSignature:
        """Sign a round's survivors: an honest site one set of them, for ever."""
        message = Survivors(round=header.digest(), survivors=survivors)
        if not self.corrupt:
            assert check_survivors(group, header, survivors) == message
            deeds = self._agreeing(group, header, survivors)
            self._require_one_header(header)
            self.rounds[header.digest()] = replace(deeds, signed=survivors)
        return SurvivorSignature(member=self.place(group), signature=self.sign(message))

    def open_survivors(
        self,
        group: Group,
        header: Header,
        survivors: Positions,
        signatures: Sequence[SurvivorSignature],
        seals: bytes,
    ) -> Opening:
        """Give shares of a round's sum."""
        deeds = self._agreeing(group, header, survivors)
        opening = open_sum(
            group,
            header,
            site_id=self.id,
            own=self.keys[group.roster.version],
            survivors=survivors,
            signatures=signatures,
            seals=seals,
        )
        self.rounds[header.digest()] = replace(deeds, opened=survivors)
        return opening

    def place(self, group: Group) -> int:
        """Return the site's position."""
        position = group.roster.position(self.id)
        assert position is not None
        return position

    def _deeds(self, header: Header) -> Deeds:
        return self.rounds.get(header.digest()) or Deeds(header)

    def _agreeing(self, group: Group, header: Header, survivors: Positions) -> Deeds:
        """Return what the site did, if it may put its name to these survivors."""
        deeds = self._deeds(header)
        if self.corrupt:
            return deeds
        if self.place(group) in survivors and deeds.upload is None:
            raise SecaggRefusedError("this site sent no update of the round")
        if not {deeds.signed, deeds.opened} <= {None, survivors}:
            raise SecaggRefusedError("this site put its name to other survivors")
        return deeds

    def _require_one_header(self, header: Header) -> None:
        for other in (it.header for it in self.rounds.values()):
            same = (other.round_id, other.retry) == (header.round_id, header.retry)
            if same and other != header:
                raise SecaggRefusedError("this site worked for another header of the round")


@dataclass
class Force:
    """A roster in force, with the words that made it so."""

    members: list[Party]  # by position
    roster: Roster
    words: list[SignedConfirmation]
    group: Group

    @property
    def corrupt(self) -> list[int]:
        """Positions of those who lie together with the hub."""
        return [place for place, it in enumerate(self.members) if it.corrupt]


@dataclass
class Round:
    """What the hub holds of one round, and the plain words that nobody holds."""

    force: Force
    header: Header
    plain: dict[int, Words]  # of the participants, by position
    masked: dict[int, bytes] = field(default_factory=dict[int, bytes])
    files: dict[int, bytes] = field(default_factory=dict[int, bytes])  # of seals
    signed: dict[Positions, dict[int, SurvivorSignature]] = field(
        default_factory=dict[Positions, dict[int, SurvivorSignature]]
    )
    opened: dict[Positions, dict[int, Opening]] = field(
        default_factory=dict[Positions, dict[int, Opening]]
    )
    proposed: Positions | None = None

    @property
    def group(self) -> Group:
        """The group of its roster."""
        return self.force.group

    @property
    def seals(self) -> dict[int, SealsFile]:
        """The files of seals that came."""
        return hub.open_seals(self.group, self.header, self.files)

    def signatures(self, survivors: Positions) -> list[SurvivorSignature]:
        """Return all signatures of a set: those that honest members gave, and all lies."""
        lies = [
            self.force.members[it].sign_survivors(self.group, self.header, survivors)
            for it in self.force.corrupt
        ]
        return [*self.signed.get(survivors, {}).values(), *lies]

    def has_quorum(self, survivors: Positions) -> bool:
        """Return whether a member would take a set as signed."""
        try:
            check_quorum(self.group, self.header, survivors, self.signatures(survivors))
        except SecaggRefusedError:
            return False
        return True

    def quora(self) -> list[Positions]:
        """Return the sets that a quorum signed."""
        return [it for it in self.signed if self.has_quorum(it)]

    def bundle(self, survivors: Positions, member: int) -> bytes:
        """Return a member's seals; zeros where an upload is not there."""
        if set(survivors) <= set(self.files):
            return hub.bundle(self.group, self.header, survivors, member, self.seals)
        lost = opened_pairs(graph_of(self.group, self.header), survivors)
        return bytes(SEAL_SIZE * sum(1 + len(it) for it in lost.values()))

    def known(self) -> tuple[set[int], set[frozenset[int]]]:
        """Return whose own seeds and which pairs' seeds the adversary has enough shares of.

        It has what honest members gave, and opens the corrupt members' seals of all that came.
        """
        graph = graph_of(self.group, self.header)
        holders: dict[tuple[int, int], set[int]] = {
            (sender, index): set(self.force.corrupt)
            for sender in self.files
            for index in range(len(graph[sender]) + 1)
        }
        for survivors, openings in self.opened.items():
            for sender, lost in opened_pairs(graph, survivors).items():
                for index in (0, *(seed_index(graph, sender, it) for it in lost)):
                    holders[sender, index] |= set(openings)
        least = self.group.parameters.threshold
        open_ = [seed for seed, them in holders.items() if len(them) >= least]
        own = {sender for sender, index in open_ if index == 0}
        pairs = {frozenset((it, graph[it][index - 1])) for it, index in open_ if index > 0}
        return own, pairs


def pins_of(parties: Sequence[Party]) -> dict[UUID, str]:
    """Return everybody's identity keys, as operators compared them."""
    return {it.id: encode_base64(public_key(it.identity)) for it in parties}
