"""What secure aggregation costs: a site, the wire and the hub, and a whole round over HTTP.

    python -m benchmarks.secure_aggregation
    python -m benchmarks.secure_aggregation --quick

Sites are simulated, the kernel is the real one: one site of n encodes, masks and seals an update of
random values; the hub takes the masks off the sum of what is left when 0, a tenth or a third of n
are lost, with as many seeds as that takes. A hub's seeds come out of shares; of many seeds so many
are reconstructed as SHARED says, and the time is scaled up. Beside them stands AES-256-CTR of this
machine, one core, on buffers that stay in its cache. Then the real stack runs rounds of 10 sites x
10M parameters over HTTP, plain and secure by turns. The last line is one JSON object.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR
from numpy.typing import NDArray

from benchmarks.rounds.compared import compare_rounds
from benchmarks.rounds.machine import load_average, this_machine
from hansa_core.layouts import Layout
from hansa_core.secagg.dealing import deal
from hansa_core.secagg.encoding import encode
from hansa_core.secagg.hub import Seeds, assemble_roster
from hansa_core.secagg.keys import commitment
from hansa_core.secagg.masks import Suite
from hansa_core.secagg.messages import Header, Member, SignedConfirmation, ranges_digest
from hansa_core.secagg.parameters import least_survivors, parameters_of
from hansa_core.secagg.plans import Terms
from hansa_core.secagg.ranges import first_ranges
from hansa_core.secagg.rosters import Group, graph_of, open_group, vector_layout
from hansa_core.secagg.shamir import agreed_secrets
from hansa_core.secagg.site import OwnKeys, confirm, make_keys, mask
from hansa_core.secagg.sums import MaskedFile, SumJob, sum_words
from hansa_core.secagg.terms import QuantiserPlan, SummedMetrics, Weighing
from hansa_core.secagg.vectors import VectorLayout
from hansa_core.signing import Purpose, encode_base64, generate_private_key, public_key, sign
from hansa_core.states import RoundKind
from hansa_core.tensors import ReadAt

RUN, FEDERATION, ROUND = UUID(int=1), UUID(int=2), UUID(int=3)
DIGEST = "0" * 64
SHARED = 400  # seeds that are reconstructed, at most
REPEATS = 3
ENOUGH_SECONDS = 10.0  # of repeating


@dataclass(frozen=True, slots=True)
class Result:
    """One size of one federation."""

    sites: int
    parameters: int
    lost: int
    site_ms: float  # encode, mask and seal, one core
    masking_ms: float  # of that: masks, shares and seals
    site_bytes: int  # masked words and seals
    hub_ms: float  # seeds from shares, and masks off, one core
    unmasking_ms: float  # of that: masks off


@dataclass(frozen=True, slots=True)
class Party:
    """A roster in force, seen from its first member."""

    group: Group
    header: Header
    own: OwnKeys
    vector: VectorLayout
    ranges: tuple[float, ...]


def main() -> int:
    """Measure, print, and return the exit status."""
    parser = argparse.ArgumentParser(description="Measure secure aggregation.")
    parser.add_argument("--sites", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--parameters", type=float, nargs="+", default=[1e6, 10e6])
    parser.add_argument("--rounds", type=int, default=6, help="over HTTP, of each kind; 0: none")
    parser.add_argument("--quick", action="store_true", help="10 and 100 sites x 1M, no HTTP")
    parser.add_argument("--directory", type=Path, help="where the temporary folder goes")
    given = parser.parse_args()
    sizes = [10, 100] if given.quick else given.sites
    parameters = [1e6] if given.quick else given.parameters
    before, limit = load_average(), aes_ctr()
    print(f"AES-256-CTR of one core: {limit:.2f} GB/s\n")
    print("sites  parameters  lost   site ms  masking ms   site MB    hub ms  unmasking ms")
    print("-------------------------------------------------------------------------------")
    results: list[Result] = []
    for sites in sizes:
        for count in (int(number) for number in parameters):
            for result in measure(sites, count):
                results.append(result)
                _print(result)
    ratio = None
    if given.rounds and not given.quick:
        ratio = _over_http(given.rounds, given.directory)
    summary = {
        "results": [_rounded(asdict(result)) for result in results],
        "aes_ctr_gigabytes_per_second": round(limit, 3),
        "secure_over_plain": ratio,
        "machine": asdict(this_machine()),
        "load_average": [before, load_average()],
    }
    print(json.dumps(summary))
    return 0


def _over_http(rounds: int, where: Path | None) -> float:
    compared = compare_rounds(
        sites=10,
        megabytes=40.0,
        rounds=rounds,
        plans={"plain": {}, "secure": {"secure": {}}},
        where=where,
    )
    print("\nrounds over HTTP, 10 sites x 10M parameters: seconds, median of each kind")
    for name, seconds in compared.items():
        print(f"{name:8} {seconds:8.3f}")
    ratio = round(compared["secure"] / compared["plain"], 3)
    print(f"secure over plain: {ratio:.2f}\n")
    return ratio


def measure(sites: int, parameters: int) -> list[Result]:
    """Return what an update costs, for 0, a tenth and a third of the sites lost."""
    rng = np.random.default_rng(1)
    delta = {"w": rng.normal(0, 1e-3, parameters).astype(np.float32)}
    party = _party(sites, Layout.of(delta))
    words = _encode(party, delta)
    encoding = _best(lambda: _encode(party, delta))
    copy = words.copy()
    seals = _mask(party, copy)
    masking = _best(lambda: _mask(party, copy))
    most = sites - least_survivors(sites)
    found: list[Result] = []
    for lost in dict.fromkeys((0, sites // 10, most)):
        unmasking, shares = _hub(party, copy, lost)
        found.append(
            Result(
                sites=sites,
                parameters=parameters,
                lost=lost,
                site_ms=1e3 * (encoding + masking),
                masking_ms=1e3 * masking,
                site_bytes=8 * len(words) + len(seals),
                hub_ms=1e3 * (unmasking + shares),
                unmasking_ms=1e3 * unmasking,
            )
        )
    return found


def aes_ctr() -> float:
    """Return the gigabytes a second of AES-256-CTR on one core."""
    cipher = Cipher(AES256(bytes(32)), CTR(bytes(16))).encryptor()
    zeros, out = bytes(1 << 17), bytearray(1 << 17)

    def work() -> None:
        for _ in range(2000):
            cipher.update_into(zeros, out)

    return 2000 * len(zeros) / 1e9 / _best(work)


def _party(sites: int, layout: Layout) -> Party:
    """Set up a roster of so many sites."""
    terms = Terms(
        quantiser=QuantiserPlan(),
        metrics=SummedMetrics(),
        weighing=Weighing.EXAMPLES,
        scalars=[],
        min_survivors=None,
        suite=Suite.AES,
        site_metrics=False,
    )
    identities = [generate_private_key() for _ in range(sites)]
    owns: list[OwnKeys] = []
    members: list[Member] = []
    for index, identity in enumerate(identities):
        own, keys = make_keys(run_id=RUN, site_id=UUID(int=index + 1), version=1)
        owns.append(own)
        members.append(
            Member(
                site_id=keys.site_id,
                site_name=f"site-{index}",
                identity_key=encode_base64(public_key(identity)),
                exchange_key=keys.exchange_key,
                commitment=keys.commitment,
                signature=encode_base64(sign(identity, Purpose.SECAGG_KEYS, keys.body())),
            )
        )
    roster = assemble_roster(
        federation_id=FEDERATION,
        run_id=RUN,
        version=1,
        plan_digest=DIGEST,
        terms=terms,
        members=members,
    )
    words: list[SignedConfirmation] = []
    for index, (identity, own) in enumerate(zip(identities, owns, strict=True)):
        said = confirm(roster, site_id=UUID(int=index + 1), own=own)
        signature = encode_base64(sign(identity, Purpose.SECAGG_ROSTER, said.body()))
        words.append(SignedConfirmation(confirmation=said, signature=signature))
    group = open_group(roster, words)
    vector = vector_layout(terms, layout, {}, sites=sites, kind=RoundKind.TRAIN)
    ranges = first_ranges(vector, terms.quantiser)
    header = Header(
        run_id=RUN,
        round_id=ROUND,
        round_number=1,
        retry=0,
        kind=RoundKind.TRAIN,
        roster=group.digest,
        participants=tuple(range(sites)),
        checkpoint=DIGEST,
        slots={},
        ranges=ranges_digest(ranges),
        deadline_at=datetime(2030, 1, 1, tzinfo=UTC),
    )
    return Party(group, header, owns[0], vector, ranges)


def _encode(party: Party, delta: dict[str, NDArray[np.float32]]) -> NDArray[np.uint64]:
    terms = party.group.roster.terms
    return encode(
        party.vector,
        terms.quantiser,
        party.ranges,
        delta,
        {},
        weight=100,
        weighing=terms.weighing,
        scalars={},
        metrics={},
        rounding_seed=bytes(32),
    )


def _mask(party: Party, words: NDArray[np.uint64]) -> bytes:
    return mask(
        party.group,
        party.header,
        site_id=UUID(int=1),
        own=party.own,
        words=words,
        seed=os.urandom(32),
    )


def _hub(party: Party, words: NDArray[np.uint64], lost: int) -> tuple[float, float]:
    """Return the seconds of taking the masks off, and of the seeds that this takes."""
    count = len(party.header.participants)
    gone = set(np.random.default_rng(lost).permutation(count)[:lost].tolist())
    graph = graph_of(party.group, party.header)
    survivors = [it for it in range(count) if it not in gone]
    pairs = [(one, other) for one in survivors for other in graph[one] if other in gone]
    seeds = Seeds(
        own=tuple(os.urandom(32) for _ in survivors),
        pairs=tuple((one, other, os.urandom(32)) for one, other in pairs),
        openers=(),
        wrong=(),
    )
    job = SumJob(
        vector=party.vector,
        terms=party.group.roster.terms,
        ranges=party.ranges,
        files=(MaskedFile(_reader(words), 0),),  # one: adding files up is every round's
        seeds=seeds,
    )

    def unmask() -> None:
        for _ in sum_words(job, 0, party.vector.words):
            pass

    unmasking = _best(unmask)
    total = len(seeds.own) + len(seeds.pairs)
    return unmasking, _reconstruction(party.group, min(total, SHARED)) * total / min(total, SHARED)


def _reconstruction(group: Group, count: int) -> float:
    """Return the seconds of getting so many seeds out of shares, each checked."""
    sizes = parameters_of(len(group.roster.members))
    round_digest = bytes(32)
    seeds = [os.urandom(32) for _ in range(count)]
    dealt = deal(seeds, threshold=sizes.threshold, shares=sizes.committee)
    rows = dict(enumerate(dealt[: sizes.threshold], 1))
    committed = [commitment(round_digest, seed) for seed in seeds]

    def work() -> None:
        for seed, known in zip(agreed_secrets(rows, sizes.threshold), committed, strict=True):
            if seed is None or commitment(round_digest, seed) != known:
                raise AssertionError("a seed was not what was dealt")

    return _best(work)


def _reader(words: NDArray[np.uint64]) -> ReadAt:
    raw = words.view(np.uint8)

    def read(buffer: memoryview, offset: int) -> None:
        np.copyto(np.frombuffer(buffer, np.uint8), raw[offset : offset + len(buffer)])

    return read


def _best(work: Callable[[], object]) -> float:
    """Return the least seconds of a few runs; of one where it is long."""
    found: list[float] = []
    while len(found) < REPEATS and sum(found) < ENOUGH_SECONDS:
        began = time.perf_counter()
        work()
        found.append(time.perf_counter() - began)
    return min(found)


def _print(result: Result) -> None:
    print(
        f"{result.sites:5} {result.parameters:11} {result.lost:5} {result.site_ms:9.1f} "
        f"{result.masking_ms:11.1f} {result.site_bytes / 1e6:9.2f} {result.hub_ms:9.1f} "
        f"{result.unmasking_ms:13.1f}",
        flush=True,
    )


def _rounded(row: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 3) for name, value in row.items()}


if __name__ == "__main__":
    sys.exit(main())
