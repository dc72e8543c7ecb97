"""Strategies over secure sums: what they make is what they make of the updates themselves, nearly.

And the same bytes, however many workers take the masks off.
"""

from collections.abc import Generator
from importlib import import_module
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.db import aggregations
from app.db.models import Round, Run
from app.services import aggregation
from app.services.secure import summing
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.states import RoundState, RunState
from tests.factories import Federation, a_federation, a_model, a_run
from tests.jobs import Sent, a_server
from tests.secure_sites import (
    SECURE,
    SecureSite,
    agree,
    open_up,
    secure_sites,
    step,
    whole_round,
)
from tests.tensors import Tensors, a_delta, decode
from tests.workers import worker_of

NAMES = ("bergen", "oslo", "turku")
WEIGHTS = {"bergen": 20, "oslo": 50, "turku": 90}
NORMALISERS = {"bergen": 2.0, "oslo": 4.0, "turku": 5.0}
MODEL: Tensors = {
    "w": np.linspace(-1, 1, 300, dtype=np.float32),
    "b": np.linspace(-1, 1, 7).astype(np.float64),
    "steps": np.array(4),
}
LARGE: Tensors = {
    "w": np.linspace(-1, 1, 7_000_000, dtype=np.float32),
    "steps": np.array(4),
}


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture(autouse=True)
def worker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setenv("HANSA_AGGREGATION_PART_BYTES", str(2**21))
    with worker_of(settings, monkeypatch):
        yield


def a_secure_run(federation: Federation, strategy: dict[str, Any], **plan: Any) -> wire.Run:
    return a_run(
        federation,
        cohort={"min_sites": 3},
        deadlines={"round_seconds": 600},
        secure=dict(SECURE),
        strategy=strategy,
        **plan,
    )


def delta_of(name: str, number: int) -> Tensors:
    made = a_delta(NAMES.index(name) + 10 * number, MODEL)
    return scaled(made, 0.3)


def control_of(name: str, number: int) -> Tensors:
    made = a_delta(100 + NAMES.index(name) + 10 * number, MODEL)
    return {key: (it * 0.1).astype(it.dtype) for key, it in made.items() if it.dtype.kind == "f"}


@pytest.mark.parametrize(
    ("strategy", "tolerance"),
    [
        ({"name": "fedavg"}, 2e-3),
        ({"name": "scaffold"}, 2e-3),
        ({"name": "fednova"}, 2e-2),
        ({"name": "diloco"}, 4e-3),
        ({"name": "feddyn", "alpha": 0.1}, 2e-3),
        ({"name": "fedadam", "lr": 0.1, "tau": 0.1}, 5e-3),
    ],
    ids=["fedavg", "scaffold", "fednova", "diloco", "feddyn", "fedadam"],
)
def test_two_secure_rounds_equal_two_plain_ones_within_the_quantisers_steps(
    strategy: dict[str, Any], tolerance: float, federation: Federation
) -> None:
    a_model(federation, MODEL)
    sites = secure_sites(federation, MODEL, *NAMES)
    run = a_secure_run(federation, strategy, rounds=2)
    server = a_server(MODEL, strategy=strategy, cohort={"min_sites": 3})
    for number in (1, 2):
        plain: list[Sent] = []

        def work(site: SecureSite, task: wire.Task, plain: list[Sent] = plain) -> Any:
            name, round_number = site.name, task.round_number
            delta = delta_of(name, round_number)
            parts = {part: control_of(name, round_number) for part in task.local_work.parts}
            scalars = {it.value: NORMALISERS[name] for it in task.local_work.scalars}
            plain.append(Sent(delta, WEIGHTS[name], parts=parts, scalars=scalars))
            return site.work(task, delta, weight=WEIGHTS[name], parts=parts, scalars=scalars)

        whole_round(run.id, sites, work)
        assert federation.round(run.id, number).state is RoundState.COMPLETED
        server = server.round(plain, population=len(NAMES))
        made = server.model
        checkpoint = federation.round(run.id, number).checkpoint_id
        found = decode(content(federation, federation.checkpoint(checkpoint).digest))
        for key, array in made.items():
            if array.dtype.kind == "f":
                assert np.abs(found[key] - array).max() < tolerance, key
            else:
                assert abs(int(found[key]) - int(array)) <= number
    assert federation.run(run.id).state is RunState.COMPLETED


def content(federation: Federation, digest: str) -> bytes:
    with federation.artifacts.open(federation.id, digest) as reader:
        data = bytearray(reader.size)
        reader.read_at(memoryview(data), 0)
    return bytes(data)


def test_a_sum_split_over_workers_is_the_sum_that_one_worker_makes(
    federation: Federation,
) -> None:
    a_model(federation, LARGE)
    sites = secure_sites(federation, LARGE, *NAMES)
    run = a_secure_run(federation, {"name": "fedadam", "lr": 0.1})
    step(run.id)
    agree(run.id, sites)
    for place, site in enumerate(sites):
        answer = site.work(site.site.claim(), scaled(a_delta(place, LARGE), 1e-3))
        assert answer.status_code == 201, answer.text
    before = set(stored(federation))
    open_up(run.id, sites)
    found = federation.round(run.id, 1)
    assert found.state is RoundState.AGGREGATING
    assert len(open_parts(federation, found.id)) > 2
    with federation.transactions.begin("describe") as tx:
        rows = tx.session.get_one(Run, run.id), tx.session.get_one(Round, found.id)
        described = aggregation.describe(tx, *rows, token=found.id)
    assert described.secure is not None
    alone = summing.take_off(described.secure, federation.artifacts)
    rounds = import_module("worker.tasks.rounds")
    turns = 0
    while federation.run(run.id).state is RunState.RUNNING:
        for part in reversed(open_parts(federation, found.id)):
            rounds.aggregate_part(str(part))
        rounds.aggregate_round(str(found.id))
        turns += 1
        assert turns < 9
    assert federation.run(run.id).state is RunState.COMPLETED, federation.run(run.id).state_reason
    digests = set(stored(federation)) - before
    assert alone.files[""].digest in digests
    # the transcript, the mean, the checkpoint and its two slots: no part is left
    assert len(digests) == 5


def scaled(tensors: Tensors, factor: float) -> Tensors:
    return {
        name: (array * factor).astype(array.dtype) if array.dtype.kind == "f" else array
        for name, array in tensors.items()
    }


def open_parts(federation: Federation, round_id: UUID) -> list[UUID]:
    with federation.transactions.begin("open_parts") as tx:
        found = aggregations.parts(tx.session, round_id)
        return [part.id for part in found if part.result is None]


def stored(federation: Federation) -> list[str]:
    return [blob.digest for page in federation.artifacts.pages() for blob in page]


def test_a_worker_that_dies_between_the_seeds_and_the_sum_costs_time_alone(
    federation: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    a_model(federation, MODEL)
    sites = secure_sites(federation, MODEL, *NAMES)
    run = a_secure_run(federation, {"name": "fedavg"})
    step(run.id)
    agree(run.id, sites)
    for site in sites:
        assert site.work(site.site.claim(), delta_of(site.name, 1)).status_code == 201

    def die(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr(summing, "take_off", die)
        with pytest.raises(KeyboardInterrupt):
            open_up(run.id, sites)
    shown = federation.round(run.id, 1)
    assert shown.secure is not None
    assert shown.secure.transcript is not None
    with federation.transactions.begin("expire") as tx:
        row = tx.session.get_one(Round, shown.id)
        row.lease_expires_at = None
    with monkeypatch.context() as never:
        never.setattr(summing, "open_seeds", die)  # they are in the transcript
        step(run.id)
    assert federation.run(run.id).state is RunState.COMPLETED
