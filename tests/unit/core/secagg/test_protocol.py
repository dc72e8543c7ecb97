"""The whole protocol in one process: sums are exact, and nobody opens what should stay closed."""

from itertools import combinations
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.layouts import Layout
from hansa_core.secagg import hub
from hansa_core.secagg.encoding import encode
from hansa_core.secagg.errors import SecaggError, SecaggRefusedError, ShareError
from hansa_core.secagg.keys import mask_seed, pair_secret
from hansa_core.secagg.masks import add_mask
from hansa_core.secagg.member import check_survivors
from hansa_core.secagg.messages import Survivors, SurvivorSignature, Upload
from hansa_core.secagg.parameters import parameters_of
from hansa_core.secagg.rosters import check_header, graph_of, open_group, vector_layout
from hansa_core.secagg.shamir import PRIME, SHARE_SIZE
from hansa_core.secagg.site import check_roster
from hansa_core.secagg.sums import MaskedFile, SumJob, sum_words, totals_of
from hansa_core.secagg.terms import Weighing
from hansa_core.signing import decode_base64, encode_base64, generate_private_key, public_key
from hansa_core.states import RoundKind
from hansa_core.tensors import bytes_reader
from tests.unit.core.secagg.parties import (
    DIGEST,
    RUN,
    Federation,
    RoundOfSums,
    Site,
    federation,
    terms,
)

WORDS = 1000
LAYOUT = Layout.of({"w": np.zeros((40, 50), np.float32), "steps": np.zeros(3, np.int64)})


def some_words(position: int) -> NDArray[np.uint64]:
    return np.random.default_rng(position).integers(0, 2**64, WORDS, np.uint64)


def a_round(
    them: Federation, uploaders: list[int], participants: list[int] | None = None
) -> RoundOfSums:
    """Return a round in which these uploaded."""
    everybody = list(range(len(them.sites))) if participants is None else participants
    made = RoundOfSums.of(them, LAYOUT, everybody)
    for position in uploaders:
        rng = np.random.default_rng(position)
        tensors = {
            "w": rng.normal(0, 1e-2, (40, 50)).astype(np.float32),
            "steps": rng.integers(0, 50, 3),
        }
        made.upload(position, tensors, weight=position + 1, metrics={"train/loss": (0.5, 7)})
    return made


def opened_sum(made: RoundOfSums, signers: list[int], openers: list[int]) -> NDArray[np.uint64]:
    job = made.job(signers, openers)
    tiles = [tile.copy() for _, tile in sum_words(job, 0, made.vector.words)]
    return np.concatenate(tiles)


def integer_sum(made: RoundOfSums) -> NDArray[np.uint64]:
    total = np.zeros(made.vector.words, np.uint64)
    for words in made.words.values():
        total += words
    return total


@pytest.mark.parametrize("count", [3, 4, 10, 16, 40])
def test_sum_is_the_integer_sum_whoever_drops_out(count: int) -> None:
    """Dropouts before the upload, before signing and before opening: a third at each."""
    them = federation(count)
    sizes = them.group.parameters
    rng = np.random.default_rng(count)
    lost = rng.permutation(count)[: count - max(3, -(-2 * count // 3))]
    uploaders = sorted(set(range(count)) - {int(it) for it in lost})
    made = a_round(them, uploaders)
    committee = list(them.group.committee)
    signers = [int(it) for it in rng.permutation(committee)[: sizes.quorum]]
    openers = [int(it) for it in rng.permutation(committee)[: sizes.threshold]]
    found = opened_sum(made, signers, openers)
    assert np.array_equal(found, integer_sum(made))
    totals = totals_of(made.job(signers, openers))
    assert totals.updates == len(uploaders)
    assert totals.weight == sum(it + 1 for it in uploaders)
    assert totals.metrics["train/loss"].mean == pytest.approx(0.5, rel=1e-4)


def test_sum_over_a_sparse_graph_is_exact() -> None:
    them = federation(130)
    made = a_round(them, [it for it in range(130) if it % 7])
    committee = list(them.group.committee)
    sizes = them.group.parameters
    found = opened_sum(made, committee[: sizes.quorum], committee[-sizes.threshold :])
    assert np.array_equal(found, integer_sum(made))


def test_any_threshold_of_openers_gives_the_same_sum() -> None:
    them = federation(4)
    made = a_round(them, [0, 2, 3])
    sizes = them.group.parameters
    sums = [
        opened_sum(made, [0, 1, 2, 3], list(some))
        for some in combinations(range(4), sizes.threshold)
    ]
    assert all(np.array_equal(one, sums[0]) for one in sums)
    with pytest.raises(ShareError):
        opened_sum(made, [0, 1, 2, 3], list(range(sizes.threshold - 1)))


def test_an_uploaded_update_says_nothing_without_its_own_seed() -> None:
    """With every pair seed known, what is left of an update is still masked by b."""
    them = federation(3)
    made = a_round(them, [0, 1, 2])
    digest = bytes.fromhex(made.header.digest())
    left = made.masked[1].copy()
    for other in (0, 2):
        secret = pair_secret(
            them.sites[1].keys[1].exchange_private,
            them.group.exchange_key(other),
            them.group.digest_bytes,
            1,
            other,
        )
        add_mask(left, mask_seed(secret, digest), negative=other > 1)
    assert np.mean(left == made.words[1]) < 0.01


def test_tampered_shares_are_found_and_named() -> None:
    them = federation(10)
    made = a_round(them, [0, 1, 2, 3, 4, 5, 6, 9])
    seals = hub.open_seals(them.group, made.header, made.files)
    survivors, _ = hub.agreeing(them.group, made.header, seals)
    signatures = them.signatures(made.header, survivors)
    openings = [them.opening(it, made.header, survivors, signatures, seals) for it in range(10)]
    honest = hub.reconstruct(them.group, made.header, survivors, openings, seals)
    for liar in (0, 7):
        data = bytearray(decode_base64(openings[liar].shares))
        data[SHARE_SIZE - 1] ^= 1
        changed = openings[liar].model_copy(update={"shares": encode_base64(bytes(data))})
        openings[liar] = changed
    found = hub.reconstruct(them.group, made.header, survivors, openings, seals)
    assert (found.own, found.pairs) == (honest.own, honest.pairs)
    assert found.wrong == (0, 7)
    with pytest.raises(ShareError, match="wanted 6 right ones"):
        hub.reconstruct(them.group, made.header, survivors, openings[:6], seals)


def test_a_share_above_the_prime_is_a_wrong_share() -> None:
    them = federation(4)
    made = a_round(them, [0, 1, 2, 3])
    seals = hub.open_seals(them.group, made.header, made.files)
    survivors, _ = hub.agreeing(them.group, made.header, seals)
    signatures = them.signatures(made.header, survivors)
    openings = [them.opening(it, made.header, survivors, signatures, seals) for it in range(4)]
    data = bytearray(decode_base64(openings[0].shares))
    data[:SHARE_SIZE] = PRIME.to_bytes(SHARE_SIZE, "big")
    openings[0] = openings[0].model_copy(update={"shares": encode_base64(bytes(data))})
    assert hub.reconstruct(them.group, made.header, survivors, openings, seals).wrong == (0,)


def test_a_site_that_was_sent_another_model_is_left_out() -> None:
    them = federation(5)
    made = a_round(them, [0, 1, 2, 4])
    other = made.header.model_copy(update={"checkpoint": "cd" * 32})
    _, made.files[3] = them.upload(3, other, some_words(3))
    seals = hub.open_seals(them.group, made.header, made.files)
    survivors, left_out = hub.agreeing(them.group, made.header, seals)
    assert survivors == (0, 1, 2, 4)
    assert "another model or round" in left_out[3]


def test_seals_of_another_round_open_nothing() -> None:
    """A hub cannot have the shares of one round's seeds under another round's name."""
    them = federation(4)
    made = a_round(them, [0, 1, 2, 3])
    for change in ({"round_number": 2}, {"retry": 1}, {"checkpoint": "cd" * 32}):
        header = made.header.model_copy(update=change)
        seals = hub.open_seals(them.group, header, made.files)
        survivors = (0, 1, 2, 3)
        signatures = them.signatures(header, survivors)
        with pytest.raises(SecaggRefusedError, match="not one for this round"):
            them.opening(1, header, survivors, signatures, seals)


def test_pair_seeds_of_a_round_are_of_no_use_in_the_next() -> None:
    """A site that dropped out had its pair seeds opened; next round it has others."""
    them = federation(3)
    one, two = them.header(), them.header(round_number=2)
    secret = pair_secret(
        them.sites[0].keys[1].exchange_private,
        them.group.exchange_key(1),
        them.group.digest_bytes,
        0,
        1,
    )
    seeds = {mask_seed(secret, bytes.fromhex(it.digest())) for it in (one, two)}
    assert len(seeds) == 2


def test_a_pair_has_another_secret_under_every_roster() -> None:
    them = federation(3)
    private = them.sites[0].keys[1].exchange_private
    public = them.group.exchange_key(1)
    secrets = {
        pair_secret(private, public, digest, 0, 1)
        for digest in (them.group.digest_bytes, bytes(32))
    }
    assert len(secrets) == 2


# What a member refuses, whatever the hub says.


def test_members_refuse_survivors_that_hide_nobody() -> None:
    them = federation(9)
    header = them.header()
    assert check_survivors(them.group, header, (0, 1, 2, 3, 4, 5)).survivors == (0, 1, 2, 3, 4, 5)
    with pytest.raises(SecaggRefusedError, match="a sum of 5 of 9 updates, wanted 6"):
        check_survivors(them.group, header, (0, 1, 2, 3, 4))
    some = them.header(range(6))
    with pytest.raises(SecaggRefusedError, match=r"survivors \[7\] are no participants"):
        check_survivors(them.group, some, (0, 1, 2, 3, 7))
    raised = federation(5, terms(min_survivors=5))
    with pytest.raises(SecaggRefusedError, match="a sum of 4 of 5 updates, wanted 5"):
        check_survivors(raised.group, raised.header(), (0, 1, 2, 3))


def test_members_refuse_a_graph_that_the_dropouts_thin_out() -> None:
    them = federation(130)
    header = them.header()
    graph = graph_of(them.group, header)
    lonely = 0
    lost = set(graph[lonely][:43])  # as many as may drop out at all
    survivors = tuple(it for it in range(130) if it not in lost)
    assert check_survivors(them.group, header, survivors)
    many = them.header(range(130))
    assert len(graph[lonely]) - 43 >= 49
    # 52 of its neighbours gone leave 48: more than a third of all is refused before that counts.
    lost = set(graph[lonely][:52])
    with pytest.raises(SecaggRefusedError):
        check_survivors(them.group, many, tuple(it for it in range(130) if it not in lost))


def test_members_open_nothing_without_a_quorum() -> None:
    them = federation(4)
    made = a_round(them, [0, 1, 2, 3])
    seals = hub.open_seals(them.group, made.header, made.files)
    survivors = (0, 1, 2, 3)
    few = them.signatures(made.header, survivors, [0, 1])
    with pytest.raises(
        SecaggRefusedError, match="2 of the committee signed these survivors, wanted 3"
    ):
        them.opening(3, made.header, survivors, few, seals)
    again = [few[0]] * 3
    with pytest.raises(SecaggRefusedError, match="1 of the committee"):
        them.opening(3, made.header, survivors, again, seals)
    others = them.signatures(made.header, (0, 1, 2), [0, 1, 2])
    with pytest.raises(SecaggRefusedError, match="does not verify"):
        them.opening(3, made.header, survivors, others, seals)
    borrowed = [SurvivorSignature(member=it, signature=few[0].signature) for it in range(3)]
    with pytest.raises(SecaggRefusedError, match="does not verify"):
        them.opening(3, made.header, survivors, borrowed, seals)


def test_no_two_sets_get_a_quorum_from_less_than_a_third_of_liars() -> None:
    """Every split of an honest committee between two sets, with all liars signing both."""
    for members in (*range(3, 40), 100, 128, 1000):
        sizes = parameters_of(members)
        liars = (sizes.committee - 1) // 3
        honest = sizes.committee - liars
        assert all(
            not (one + liars >= sizes.quorum and honest - one + liars >= sizes.quorum)
            for one in range(honest + 1)
        )


def test_headers_of_another_roster_or_run_are_refused() -> None:
    them = federation(3)
    changes: list[dict[str, Any]] = [{"roster": "cd" * 32}, {"run_id": UUID(int=5)}]
    for change in changes:
        with pytest.raises(SecaggError, match="the round is of roster"):
            check_header(them.group, them.header(**change))
    with pytest.raises(SecaggError, match="wanted at least 3"):
        check_header(them.group, them.header([0, 1]))
    with pytest.raises(SecaggError, match="participant 3"):
        check_header(them.group, them.header([0, 1, 3]))


# What a site refuses of a roster.


def test_sites_refuse_rosters_that_were_tampered_with() -> None:
    them = federation(3)
    roster, site = them.group.roster, them.sites[0]

    def check(changed: object, *, trusted: bool = True) -> None:
        check_roster(
            roster.model_validate(changed),
            site_id=site.id,
            own=site.keys[1],
            identity_key=public_key(site.identity),
            terms=terms(),
            trust=lambda _: None if trusted else "its key is not the pinned one",
        )

    plain = roster.model_dump()
    check(plain)
    swapped = Site(1).member()  # another identity under the same name: a key of the hub's
    members = [roster.members[0], swapped, roster.members[2]]
    with pytest.raises(SecaggRefusedError, match="does not trust"):
        check({**plain, "members": members}, trusted=False)
    stolen = roster.members[1].model_copy(update={"exchange_key": swapped.exchange_key})
    with pytest.raises(SecaggError, match="site-1"):
        check({**plain, "members": [roster.members[0], stolen, roster.members[2]]})
    with pytest.raises(SecaggRefusedError, match="other terms"):
        check({**plain, "terms": terms(site_metrics=True)})
    with pytest.raises(SecaggRefusedError, match="leaves this site out"):
        check({**plain, "members": [*roster.members[1:], Site(7).member()]})
    mine = Site(0, identity=generate_private_key()).member()
    with pytest.raises(SecaggRefusedError, match="other keys for this site"):
        check({**plain, "members": [mine, *roster.members[1:]]})


def test_a_roster_needs_everybodys_word_with_the_nonce_they_committed_to() -> None:
    them = federation(3)
    roster = them.group.roster
    words = [site.confirmed(roster) for site in them.sites]
    with pytest.raises(SecaggError, match="not confirmed by site-2"):
        open_group(roster, words[:2])
    lie = words[2].confirmation.model_copy(update={"nonce": encode_base64(bytes(32))})
    signed = words[2].model_copy(update={"confirmation": lie, "signature": them.sites[2].sign(lie)})
    with pytest.raises(SecaggError, match="not the one that it committed to"):
        open_group(roster, [*words[:2], signed])
    with pytest.raises(SecaggError, match="does not verify"):
        open_group(
            roster, [*words[:2], words[2].model_copy(update={"signature": words[1].signature})]
        )
    other = federation(3, version=2)
    with pytest.raises(SecaggError, match="confirms roster"):
        open_group(roster, [*words[:2], other.sites[2].confirmed(other.group.roster)])


def test_keys_of_another_run_or_version_do_not_get_into_a_roster() -> None:
    sites = [Site(it) for it in range(3)]
    agreed = terms()

    def assemble(first: Site, run_id: UUID, version: int) -> None:
        hub.assemble_roster(
            federation_id=UUID(int=1),
            run_id=RUN,
            version=1,
            plan_digest=DIGEST,
            terms=agreed,
            members=[first.member(version, run_id), *(it.member() for it in sites[1:])],
        )

    assemble(sites[0], RUN, 1)
    for run_id, version in ((UUID(int=9), 1), (RUN, 2)):
        with pytest.raises(SecaggError, match="member site-0"):
            assemble(sites[0], run_id, version)


# The transcript.


def test_transcripts_are_checked_offline() -> None:
    them = federation(5)
    made = a_round(them, [0, 1, 3, 4])
    job = made.job([0, 1, 2, 3, 4], [0, 2, 4])
    seals = hub.open_seals(them.group, made.header, made.files)
    survivors = (0, 1, 3, 4)
    uploads = [Upload(member=it, manifest=DIGEST, masked=DIGEST, seals=DIGEST) for it in survivors]
    signatures = them.signatures(made.header, survivors)
    told = hub.write_transcript(made.header, made.ranges, survivors, signatures, uploads, job.seeds)
    assert hub.check_transcript(them.group, told, seals) == job.seeds
    assert hub.check_transcript(them.group, told, None) == job.seeds
    wrong = {
        "a quorum": {"signatures": told.signatures[:3]},
        "ranges": {"ranges": tuple(2 * it for it in told.ranges)},
        "uploads": {"uploads": told.uploads[:3]},
        "pairs": {"pairs": told.pairs[1:]},
        "seeds": {"own": told.own[1:]},
        "committed": {"own": (told.own[1], *told.own[1:])},
    }
    for change in wrong.values():
        with pytest.raises(SecaggError):
            hub.check_transcript(them.group, told.model_copy(update=change), seals)


def test_survivor_messages_are_of_one_round_and_one_set() -> None:
    one = Survivors(round=DIGEST, survivors=(0, 1, 2))
    assert one.digest() != Survivors(round="cd" * 32, survivors=(0, 1, 2)).digest()
    assert one.digest() != Survivors(round=DIGEST, survivors=(0, 1, 3)).digest()


@pytest.mark.parametrize("weighing", list(Weighing))
def test_evaluations_are_weighed_by_examples_whatever_the_strategy(weighing: Weighing) -> None:
    scalars = ["normaliser"] if weighing is Weighing.NORMALISED else []
    agreed = terms(weighing=weighing, scalars=scalars)
    vector = vector_layout(agreed, LAYOUT, {}, sites=3, kind=RoundKind.EVALUATE)
    words = [
        encode(
            vector,
            agreed.quantiser,
            (),
            {},
            {},
            weight=examples,
            weighing=Weighing.EXAMPLES,
            scalars={},
            metrics={"eval/loss": (loss, examples)},
            rounding_seed=bytes(32),
        )
        for loss, examples in ((0.5, 100), (1.0, 300), (2.0, 600))
    ]
    files = tuple(MaskedFile(bytes_reader(it.tobytes()), 0) for it in words)
    totals = totals_of(SumJob(vector, agreed, (), files, hub.Seeds((), (), (), ())))
    assert totals.metrics["eval/loss"].mean == pytest.approx(1.55, rel=1e-6)
    assert totals.metrics["eval/loss"].weight == 1000
