"""Frozen inputs and outputs of every primitive: what other implementations have to agree with."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa_core.secagg.dealing import deal
from hansa_core.secagg.graph import neighbours
from hansa_core.secagg.keys import commitment, exchange_public, mask_seed, pair_secret, seal_key
from hansa_core.secagg.masks import Suite, add_mask
from hansa_core.secagg.parameters import committee_of, least_survivors, parameters_of
from hansa_core.secagg.seals import SealsFile, seal, unseal, write_seals
from hansa_core.secagg.shamir import combine

VECTORS = json.loads(
    (Path(__file__).parents[3] / "vectors" / "secagg" / "primitives.json").read_text()
)
ROSTER, ROUND, PUBLIC_SEED = (
    bytes.fromhex(VECTORS[name]) for name in ("roster_digest", "round_digest", "public_seed")
)
Case = dict[str, Any]


def positions_sha256(positions: Iterable[int]) -> str:
    """Return the SHA-256 of positions as big-endian u16."""
    return hashlib.sha256(b"".join(one.to_bytes(2, "big") for one in positions)).hexdigest()


def graph_sha256(graph: Mapping[int, tuple[int, ...]]) -> str:
    """Return the SHA-256 of each participant followed by its neighbours, in order."""
    return positions_sha256(place for one, near in graph.items() for place in (one, *near))


@pytest.mark.parametrize("case", VECTORS["parameters"], ids=lambda case: str(case["members"]))
def test_parameters(case: Case) -> None:
    found = parameters_of(case["members"])
    assert {name: getattr(found, name) for name in found.__slots__} == {
        name: value for name, value in case.items() if name != "least_survivors"
    }
    assert least_survivors(case["members"]) == case["least_survivors"]


@pytest.mark.parametrize("case", VECTORS["committees"], ids=lambda case: str(case["members"]))
def test_committees(case: Case) -> None:
    committee = committee_of(case["members"], PUBLIC_SEED)
    assert list(committee[:4]) == case["first"]
    assert positions_sha256(committee) == case["sha256"]


@pytest.mark.parametrize("case", VECTORS["graphs"], ids=lambda case: str(case["members"]))
def test_graphs(case: Case) -> None:
    graph = neighbours(range(case["members"]), PUBLIC_SEED)
    assert list(graph[0][:4]) == case["first_of_0"]
    assert graph_sha256(graph) == case["sha256"]


@pytest.mark.parametrize("case", VECTORS["pairs"], ids=lambda case: f"{case['i']}-{case['j']}")
def test_keys_of_pairs(case: Case) -> None:
    i, j = case["i"], case["j"]
    private_i, private_j = bytes.fromhex(case["private_i"]), bytes.fromhex(case["private_j"])
    public_i, public_j = exchange_public(private_i), exchange_public(private_j)
    assert (public_i.hex(), public_j.hex()) == (case["public_i"], case["public_j"])
    secret = pair_secret(private_i, public_j, ROSTER, i, j)
    assert secret == pair_secret(private_j, public_i, ROSTER, j, i)
    assert secret.hex() == case["s_ij"]
    assert mask_seed(secret, ROUND).hex() == case["h_ij"]
    assert seal_key(secret, ROUND, i, j).hex() == case["e_ij"]
    assert seal_key(secret, ROUND, j, i).hex() == case["e_ji"]
    assert commitment(ROUND, mask_seed(secret, ROUND)).hex() == case["commitment_h_ij"]


@pytest.mark.parametrize("case", VECTORS["shares"], ids=lambda case: case["secret"][:8])
def test_shares(case: Case) -> None:
    numbers = count()

    def drawn(size: int) -> bytes:
        return hashlib.sha512(b"coefficient %d" % next(numbers)).digest()[:size]

    secret = bytes.fromhex(case["secret"])
    threshold, frozen = case["threshold"], case["shares"]
    made = deal([secret], threshold=threshold, shares=len(frozen), random_bytes=drawn)
    assert [share.hex() for (share,) in made] == frozen
    last = {x: bytes.fromhex(frozen[x - 1]) for x in range(1, len(frozen) + 1)[-threshold:]}
    assert combine(last, threshold) == secret


@pytest.mark.parametrize("case", VECTORS["masks"], ids=lambda case: case["suite"])
def test_masks(case: Case) -> None:
    for part in case["words"]:
        words = np.zeros(len(part["hex"]), np.uint64)
        seed = bytes.fromhex(case["seed"])
        add_mask(words, seed, first_word=part["first_word"], suite=Suite(case["suite"]))
        assert [f"{int(word):016x}" for word in words] == part["hex"]


def test_seals() -> None:
    case: Case = VECTORS["seal"]
    share, key = bytes.fromhex(case["share"]), bytes.fromhex(case["key"])
    place = (case["sender"], case["member"], case["index"])
    assert seal(share, key, ROUND, *place).hex() == case["sealed"]
    assert unseal(bytes.fromhex(case["sealed"]), key, ROUND, *place) == share


def test_file_of_seals() -> None:
    case: Case = VECTORS["seals_file"]
    neighbour_count, members, sender = case["neighbours"], case["committee"], case["sender"]
    key, share = bytes.fromhex(case["key"]), bytes.fromhex(case["share"])
    seeds = [hashlib.sha256(b"seed %d" % index).digest() for index in range(neighbour_count + 1)]
    commitments = [commitment(ROUND, seed) for seed in seeds]
    seals = [
        [seal(share, key, ROUND, sender, member, index) for index in range(neighbour_count + 1)]
        for member in range(members)
    ]
    data = write_seals(commitments, seals)
    assert len(data) == case["bytes"]
    assert hashlib.sha256(data).hexdigest() == case["sha256"]
    file = SealsFile(data, neighbours=neighbour_count, committee=members)
    assert file.commitments == tuple(commitments)
    assert file.seal(members - 1, neighbour_count) == seals[-1][-1]
