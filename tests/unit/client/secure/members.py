"""The members of a roster that are played in tests, and what they upload, sign and send."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID, uuid4

import numpy as np
from numpy.typing import NDArray

from hansa_core.secagg.masks import Suite
from hansa_core.secagg.member import open_sum
from hansa_core.secagg.messages import (
    Header,
    Keys,
    Member,
    Message,
    Opening,
    Roster,
    SignedConfirmation,
    SurvivorSignature,
)
from hansa_core.secagg.plans import Terms
from hansa_core.secagg.rosters import MASKED, PURPOSES, SEALS, Group
from hansa_core.secagg.site import OwnKeys, confirm, make_keys
from hansa_core.secagg.terms import QuantiserPlan, SummedMetrics, Weighing
from hansa_core.signing import encode_base64, generate_private_key, public_key, sign
from hansa_core.tensors import bytes_reader, read_tensors

TERMS = Terms(
    quantiser=QuantiserPlan(max_examples=1000),
    metrics=SummedMetrics(),
    weighing=Weighing.EXAMPLES,
    scalars=[],
    min_survivors=None,
    suite=Suite.AES,
    site_metrics=False,
)
OTHERS = ("bergen", "oslo", "turku")
EXAMPLES = 20  # of each of them


def signed(private: bytes, message: Message) -> str:
    return encode_base64(sign(private, PURPOSES[type(message)], message.body()))


@dataclass
class Other:
    """A member that is played here."""

    name: str
    site_id: UUID = field(default_factory=uuid4)
    private: bytes = field(default_factory=generate_private_key)
    own: dict[int, OwnKeys] = field(default_factory=dict[int, OwnKeys])  # by version

    def line(self, run_id: UUID, version: int) -> Member:
        own, keys = make_keys(run_id=run_id, site_id=self.site_id, version=version)
        self.own[version] = own
        return line_of(self.name, public_key(self.private), keys, signed(self.private, keys))

    def confirmation(self, roster: Roster) -> SignedConfirmation:
        message = confirm(roster, site_id=self.site_id, own=self.own[roster.version])
        return SignedConfirmation(confirmation=message, signature=signed(self.private, message))

    def opening(
        self,
        group: Group,
        header: Header,
        survivors: tuple[int, ...],
        signatures: Sequence[SurvivorSignature],
        seals: bytes,
    ) -> Opening:
        return open_sum(
            group,
            header,
            site_id=self.site_id,
            own=self.own[group.roster.version],
            survivors=survivors,
            signatures=signatures,
            seals=seals,
        )


def line_of(name: str, identity_key: bytes, keys: Keys, signature: str) -> Member:
    return Member(
        site_id=keys.site_id,
        site_name=name,
        identity_key=encode_base64(identity_key),
        exchange_key=keys.exchange_key,
        commitment=keys.commitment,
        signature=signature,
    )


def words_of(content: bytes) -> NDArray[np.uint64]:
    return read_tensors(bytes_reader(content), len(content))[MASKED].view(np.uint64).copy()


def seals_of(content: bytes) -> bytes:
    return read_tensors(bytes_reader(content), len(content))[SEALS].tobytes()
