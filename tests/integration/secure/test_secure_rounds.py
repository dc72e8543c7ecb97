"""Whole secure rounds over REST: the hub's sum is that of the unmasked words, bit by bit."""

from typing import Any
from uuid import UUID

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.db.models import SecureRound
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import receipts, wire
from hansa_core.secagg.messages import Header, Transcript, parse
from hansa_core.secagg.ranges import first_ranges
from hansa_core.states import RoundState, RunState
from tests.factories import Federation, a_federation, a_model, a_run
from tests.secure_sites import (
    SECURE,
    SecureSite,
    plain_mean,
    secure_sites,
    vector_of,
    whole_round,
)
from tests.tensors import Tensors, a_delta, decode

NAMES = ("bergen", "espoo", "oslo", "turku", "umea", "vaasa", "kiruna", "lund", "narvik", "odense")
MODEL: Tensors = {
    "layer.weight": np.linspace(-1, 1, 30_000, dtype=np.float32).reshape(100, 300),
    "layer.bias": np.linspace(-1, 1, 50).astype(np.float16),
    "steps": np.array(7, np.int64),
}


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    made = a_federation(client, transactions, settings)
    a_model(made, MODEL)
    return made


def a_secure_run(federation: Federation, sites: int, **plan: Any) -> wire.Run:
    plan = {
        "cohort": {"min_sites": max(3, sites * 2 // 3)},
        "deadlines": {"round_seconds": 600},
        "secure": dict(SECURE),
        **plan,
    }
    return a_run(federation, **plan)


def a_small_delta(seed: int) -> Tensors:
    """Return a delta that the clip leaves as it is."""
    return {
        name: (array * 0.1).astype(array.dtype) if array.dtype.kind == "f" else array
        for name, array in a_delta(seed, MODEL).items()
    }


def blob(federation: Federation, digest: str) -> bytes:
    with federation.artifacts.open(federation.id, digest) as reader:
        data = bytearray(reader.size)
        reader.read_at(memoryview(data), 0)
    return bytes(data)


def account(federation: Federation, run_id: UUID, number: int = 1) -> receipts.RoundAccount:
    for item in federation.get(f"/runs/{run_id}/receipts")["items"]:
        told = receipts.parse_body(item["body"].encode()).round
        if told is not None and told.round_number == number:
            return told
    raise AssertionError(f"round {number} has no receipt")


def check_sum(
    federation: Federation, run_id: UUID, survivors: list[SecureSite], number: int = 1
) -> Tensors:
    """Compare the stored mean with the survivors' own words; return it."""
    told = account(federation, run_id, number)
    assert told.secure is not None
    assert told.secure.transcript is not None
    assert told.secure.summed is not None
    transcript = parse(Transcript, blob(federation, told.secure.transcript.digest))
    group = survivors[0].group(told.secure.roster)
    wanted = plain_mean(group, transcript.header, transcript.ranges, survivors, MODEL)
    mean = decode(blob(federation, told.secure.summed.digest))
    assert set(mean) == set(MODEL)
    for name, array in mean.items():
        assert array.dtype == MODEL[name].dtype
        expected = wanted[name].reshape(array.shape)
        if array.dtype.kind != "f":
            expected = np.rint(expected)
        assert np.array_equal(array, expected.astype(array.dtype)), name
    assert len(told.secure.survivors) == len(survivors)
    return mean


@pytest.mark.parametrize("count", [3, 4, 10])
def test_a_round_is_the_mean_that_the_unmasked_words_add_up_to(
    federation: Federation, count: int
) -> None:
    sites = secure_sites(federation, MODEL, *NAMES[:count])
    run = a_secure_run(federation, count)
    weights = {site.name: 10 * (place + 1) for place, site in enumerate(sites)}
    deltas = {site.name: a_small_delta(place) for place, site in enumerate(sites)}
    whole_round(
        run.id,
        sites,
        lambda site, task: site.work(
            task,
            deltas[site.name],
            weight=weights[site.name],
            metrics={"train/loss": (weights[site.name] / 100, weights[site.name])},
        ),
    )
    ended = federation.run(run.id)
    assert (ended.state, ended.rounds_completed) == (RunState.COMPLETED, 1), ended.state_reason
    mean = check_sum(federation, run.id, sites)
    total = sum(weights.values())
    exact = sum(
        deltas[name]["layer.weight"].astype(np.float64) * weight / total
        for name, weight in weights.items()
    )
    assert np.abs(mean["layer.weight"] - exact).max() < 2e-3  # steps of 40 / 2^17 and less
    final = decode(blob(federation, federation.checkpoint(ended.latest_checkpoint_id).digest))
    shifted = MODEL["layer.weight"].astype(np.float64) + mean["layer.weight"].astype(np.float64)
    assert np.array_equal(final["layer.weight"], shifted.astype(np.float32))


def following(federation: Federation, header: Header) -> tuple[float, ...]:
    """Return the ranges that a round's totals led to."""
    with federation.transactions.begin("following") as tx:
        row = tx.session.get_one(SecureRound, header.round_id)
        assert row.totals is not None
        return tuple(row.totals["ranges"])


def test_a_run_of_several_rounds_keeps_its_roster_and_its_ranges_follow(
    federation: Federation,
) -> None:
    sites = secure_sites(federation, MODEL, *NAMES[:3])
    run = a_secure_run(federation, 3, rounds=2, evaluation={"every": 1, "final": True})
    ranges: list[tuple[float, ...]] = []
    headers: list[Header] = []

    def work(site: SecureSite, task: wire.Task) -> Any:
        assert task.secure is not None
        if site is sites[0]:
            ranges.append(task.secure.ranges)
            headers.append(task.secure.header)
        delta = a_small_delta(task.round_number * 10 + NAMES.index(site.name))
        metrics = {"eval/loss": (0.5 + task.round_number, 4), "train/loss": (0.25, 10)}
        return site.work(task, delta, metrics=metrics)

    for number in (1, 2, 3):
        whole_round(run.id, sites, work)
        shown = federation.round(run.id, number)
        assert shown.state is RoundState.COMPLETED, shown.state_reason
        assert shown.secure is not None
        assert (shown.secure.roster_version, shown.secure.survivors) == (1, 3)
        assert (shown.secure.quorum, shown.secure.threshold) == (3, 2)
    ended = federation.run(run.id)
    assert (ended.state, ended.rounds_completed) == (RunState.COMPLETED, 2), ended.state_reason
    check_sum(federation, run.id, sites, number=1)
    check_sum(federation, run.id, sites, number=2)
    group = sites[0].group(headers[0].roster)
    vector = vector_of(group, headers[0], MODEL)
    assert ranges[0] == first_ranges(vector, group.roster.terms.quantiser)
    assert ranges[1] == following(federation, headers[0])
    assert ranges[1] != ranges[0]
    assert ranges[2] == ()  # an evaluation has no tensors
    points = federation.get(f"/runs/{run.id}/metrics", limit=100)["items"]
    assert {it["site_id"] for it in points} == {None}
    evaluated = {it["round_number"]: it["value"] for it in points if it["kind"] == "eval"}
    assert evaluated == pytest.approx({0: 1.5, 1: 2.5, 2: 3.5})
    trained = [(it["value"], it["num_examples"]) for it in points if it["kind"] == "train"]
    assert trained == [(pytest.approx(0.25), 30)] * 2
    told = account(federation, run.id, 3)
    assert told.secure is not None
    assert told.secure.summed is None
    assert told.secure.transcript is not None
