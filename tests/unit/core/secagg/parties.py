"""Sites, a committee and an honest hub that talk through Python calls: what tests start from."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from hansa_core.layouts import Layout
from hansa_core.secagg import hub
from hansa_core.secagg.encoding import encode
from hansa_core.secagg.member import check_survivors, open_sum
from hansa_core.secagg.messages import (
    Confirmation,
    Header,
    Member,
    Message,
    Opening,
    Roster,
    SignedConfirmation,
    Survivors,
    SurvivorSignature,
    ranges_digest,
)
from hansa_core.secagg.plans import Terms
from hansa_core.secagg.ranges import first_ranges
from hansa_core.secagg.rosters import PURPOSES, Group, open_group, vector_layout
from hansa_core.secagg.seals import SealsFile
from hansa_core.secagg.site import OwnKeys, check_roster, confirm, make_keys, mask
from hansa_core.secagg.sums import MaskedFile, SumJob
from hansa_core.secagg.terms import QuantiserPlan, SummedMetrics, Weighing
from hansa_core.secagg.vectors import VectorLayout
from hansa_core.signing import encode_base64, generate_private_key, public_key, sign
from hansa_core.states import RoundKind
from hansa_core.tensors import bytes_reader

RUN = UUID(int=1 << 100)
FEDERATION = UUID(int=2 << 100)
DIGEST = "ab" * 32


def terms(**changes: Any) -> Terms:
    return Terms.model_validate(
        {
            "quantiser": QuantiserPlan(),
            "metrics": SummedMetrics(),
            "weighing": Weighing.EXAMPLES,
            "scalars": [],
            "min_survivors": None,
            "suite": "aes-256-ctr",
            "site_metrics": False,
            **changes,
        }
    )


@dataclass
class Site:
    """One site, honest."""

    index: int
    identity: bytes = field(default_factory=generate_private_key)
    keys: dict[int, OwnKeys] = field(default_factory=dict[int, OwnKeys])  # by roster version

    @property
    def id(self) -> UUID:
        return UUID(int=self.index + 1)

    def sign(self, message: Message) -> str:
        return encode_base64(sign(self.identity, PURPOSES[type(message)], message.body()))

    def member(self, version: int = 1, run_id: UUID = RUN) -> Member:
        own, keys = make_keys(run_id=run_id, site_id=self.id, version=version)
        self.keys[version] = own
        return Member(
            site_id=self.id,
            site_name=f"site-{self.index}",
            identity_key=encode_base64(public_key(self.identity)),
            exchange_key=keys.exchange_key,
            commitment=keys.commitment,
            signature=self.sign(keys),
        )

    def confirmed(self, roster: Roster, agreed: Terms | None = None) -> SignedConfirmation:
        own = self.keys[roster.version]
        check_roster(
            roster,
            site_id=self.id,
            own=own,
            identity_key=public_key(self.identity),
            terms=agreed,
            trust=lambda _: None,
        )
        return self.word(roster)

    def word(self, roster: Roster) -> SignedConfirmation:
        own = self.keys[roster.version]
        said: Confirmation = confirm(roster, site_id=self.id, own=own)
        return SignedConfirmation(confirmation=said, signature=self.sign(said))


@dataclass
class Federation:
    """Sites whose roster is in force."""

    sites: list[Site]
    group: Group

    def header(self, participants: Sequence[int] | None = None, **changes: Any) -> Header:
        count = len(self.sites)
        return Header.model_validate(
            {
                "run_id": RUN,
                "round_id": UUID(int=77),
                "round_number": 1,
                "retry": 0,
                "kind": RoundKind.TRAIN,
                "roster": self.group.digest,
                "participants": tuple(range(count) if participants is None else participants),
                "checkpoint": DIGEST,
                "slots": {},
                "ranges": DIGEST,
                "deadline_at": datetime(2030, 1, 1, tzinfo=UTC),
                **changes,
            }
        )

    def upload(
        self, position: int, header: Header, words: NDArray[np.uint64]
    ) -> tuple[NDArray[np.uint64], bytes]:
        """Return a site's masked words and its file of seals."""
        masked = words.copy()
        site = self.sites[position]
        seed = np.random.default_rng(position).bytes(32)
        own = site.keys[self.group.roster.version]
        seals = mask(self.group, header, site_id=site.id, own=own, words=masked, seed=seed)
        return masked, seals

    def signatures(
        self, header: Header, survivors: tuple[int, ...], signers: Collection[int] | None = None
    ) -> list[SurvivorSignature]:
        found: list[SurvivorSignature] = []
        for position in self.group.committee if signers is None else signers:
            message: Survivors = check_survivors(self.group, header, survivors)
            signature = self.sites[position].sign(message)
            found.append(SurvivorSignature(member=position, signature=signature))
        return found

    def opening(
        self,
        position: int,
        header: Header,
        survivors: tuple[int, ...],
        signatures: Sequence[SurvivorSignature],
        seals: Mapping[int, SealsFile],
    ) -> Opening:
        site = self.sites[position]
        return open_sum(
            self.group,
            header,
            site_id=site.id,
            own=site.keys[self.group.roster.version],
            survivors=survivors,
            signatures=signatures,
            seals=hub.bundle(self.group, header, survivors, position, seals),
        )


def federation(count: int, agreed: Terms | None = None, version: int = 1) -> Federation:
    """Return `count` sites with a roster in force."""
    sites = [Site(index) for index in range(count)]
    agreed = agreed or terms()
    roster = hub.assemble_roster(
        federation_id=FEDERATION,
        run_id=RUN,
        version=version,
        plan_digest=DIGEST,
        terms=agreed,
        members=[site.member(version) for site in sites],
    )
    some = sites[:8]  # check it as sites do; for all of many that is long
    words = [it.confirmed(roster, agreed) if it in some else it.word(roster) for it in sites]
    return Federation(sites, open_group(roster, words))


@dataclass
class RoundOfSums:
    """One round over real tensors, from encoding to the job that opens its sum."""

    federation: Federation
    layout: Layout
    header: Header
    vector: VectorLayout
    ranges: tuple[float, ...]
    words: dict[int, NDArray[np.uint64]] = field(default_factory=dict[int, NDArray[np.uint64]])
    masked: dict[int, NDArray[np.uint64]] = field(default_factory=dict[int, NDArray[np.uint64]])
    files: dict[int, bytes] = field(default_factory=dict[int, bytes])

    @classmethod
    def of(
        cls,
        them: Federation,
        layout: Layout,
        participants: Sequence[int],
        parts: Mapping[str, Layout] | None = None,
    ) -> "RoundOfSums":
        agreed = them.group.roster.terms
        vector = vector_layout(
            agreed, layout, parts or {}, sites=len(participants), kind=RoundKind.TRAIN
        )
        ranges = first_ranges(vector, agreed.quantiser)
        header = them.header(participants, ranges=ranges_digest(ranges))
        return cls(them, layout, header, vector, ranges)

    def upload(
        self,
        position: int,
        tensors: Mapping[str, NDArray[Any]],
        *,
        weight: int = 1,
        parts: Mapping[str, Mapping[str, NDArray[Any]]] | None = None,
        scalars: Mapping[str, float] | None = None,
        metrics: Mapping[str, tuple[float, int]] | None = None,
    ) -> None:
        agreed = self.federation.group.roster.terms
        words = encode(
            self.vector,
            agreed.quantiser,
            self.ranges,
            tensors,
            parts or {},
            weight=weight,
            weighing=agreed.weighing,
            scalars=scalars or {},
            metrics=metrics or {},
            rounding_seed=np.random.default_rng(1000 + position).bytes(32),
        )
        self.words[position] = words
        self.masked[position], self.files[position] = self.federation.upload(
            position, self.header, words
        )

    def job(self, signers: Collection[int], openers: Collection[int]) -> SumJob:
        """Sign and open what was uploaded, and return the job of its sum."""
        them = self.federation
        seals = hub.open_seals(them.group, self.header, self.files)
        survivors, left_out = hub.agreeing(them.group, self.header, seals)
        assert left_out == {}
        signatures = them.signatures(self.header, survivors, signers)
        openings = [them.opening(it, self.header, survivors, signatures, seals) for it in openers]
        seeds = hub.reconstruct(them.group, self.header, survivors, openings, seals)
        masked = tuple(MaskedFile(bytes_reader(self.masked[it].tobytes()), 0) for it in survivors)
        return SumJob(self.vector, them.group.roster.terms, self.ranges, masked, seeds)
