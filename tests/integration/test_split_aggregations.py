"""Aggregations that are split over workers: the worker's own tasks, parts in any order, deaths."""

from collections.abc import Callable, Generator
from datetime import timedelta
from importlib import import_module
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.db import aggregations as rows
from app.domain.clock import utc_now
from app.domain.errors import StorageUnavailableError
from app.services import splitting
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.aggregation import distances
from hansa_core.states import RoundState, RunState
from tests.factories import (
    AGGREGATION_LEASE,
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_run,
    sites_online,
    work_off,
)
from tests.jobs import Sent, a_server
from tests.tensors import Tensors, digest_of
from tests.workers import worker_of

NAMES = ("bergen", "espoo", "oslo", "turku", "umea")
MODEL: Tensors = {
    "w": np.linspace(-1, 1, 600_000, dtype="f4"),
    "h": np.linspace(-1, 1, 90_000).astype("f2"),
    "steps": np.array(4),
}
KRUM = {"name": "krum", "byzantine": 1}
ADAM = {"name": "fedadam", "lr": 0.1}
PART_BYTES = 2**21  # of 13 MB of input: 7 parts


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    made = a_federation(client, transactions, settings)
    a_model(made, MODEL)
    return made


@pytest.fixture
def sites(federation: Federation) -> list[ActiveSite]:
    return sites_online(federation, *NAMES)


@pytest.fixture(autouse=True)
def worker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    monkeypatch.setenv("HANSA_AGGREGATION_PART_BYTES", str(PART_BYTES))
    monkeypatch.setattr(distances, "CELL_BLOCKS", 64)
    with worker_of(settings, monkeypatch):
        yield


def task(name: str) -> Callable[[str], None]:
    """Return one of the worker's tasks."""
    return getattr(import_module("worker.tasks.rounds"), name)


def sent() -> list[Sent]:
    made: list[Sent] = []
    for site in range(len(NAMES)):
        rng = np.random.default_rng(site)
        delta: Tensors = {
            name: rng.standard_normal(it.shape).astype(it.dtype) for name, it in MODEL.items()
        }
        made.append(Sent(delta, 3 + site))
    return made


def expected(section: dict[str, Any]) -> str:
    server = a_server(MODEL, strategy=section, cohort={"min_sites": len(NAMES)})
    return digest_of(server.round(sent()).checkpoint)


def answered(federation: Federation, sites: list[ActiveSite], section: dict[str, Any]) -> UUID:
    """Bring a run to where its round is to be aggregated; return the round's id."""
    cohort = {"min_sites": len(NAMES)}
    run = a_run(federation, strategy=section, cohort=cohort, deadlines={"round_seconds": 600})
    work_off(federation)
    for site, it in zip(sites, sent(), strict=True):
        site.answer(site.claim(), it.delta, num_examples=it.num_examples)
    task("step_run")(str(run.id))
    found = federation.round(run.id, 1)
    assert found.state is RoundState.AGGREGATING
    return found.id


def open_parts(federation: Federation, round_id: UUID) -> list[UUID]:
    with federation.transactions.begin("open_parts") as tx:
        return [part.id for part in rows.parts(tx.session, round_id) if part.result is None]


def run_of(federation: Federation) -> wire.Run:
    return federation.run(UUID(federation.get("/runs")["items"][0]["id"]))


def finish(federation: Federation, round_id: UUID) -> int:
    """Do what messages would make workers do, parts from the last to the first; count stages."""
    stages = 0
    while run_of(federation).state is RunState.RUNNING:
        task("aggregate_round")(str(round_id))
        parts = open_parts(federation, round_id)
        stages += bool(parts)
        for part in reversed(parts):
            task("aggregate_part")(str(part))
        assert stages < 9
    return stages


def newest(federation: Federation) -> str:
    return federation.checkpoint(run_of(federation).latest_checkpoint_id).digest


@pytest.mark.parametrize(("section", "stages"), [(ADAM, 1), (KRUM, 2)], ids=["fedadam", "krum"])
def test_parts_make_what_one_worker_makes(
    section: dict[str, Any], stages: int, federation: Federation, sites: list[ActiveSite]
) -> None:
    round_id = answered(federation, sites, section)
    task("aggregate_round")(str(round_id))
    assert len(open_parts(federation, round_id)) > 3
    assert finish(federation, round_id) == stages
    assert newest(federation) == expected(section)
    assert open_parts(federation, round_id) == []


def test_the_parts_files_are_gone_when_the_round_is_done(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    round_id = answered(federation, sites, ADAM)
    before = set(listed(federation))
    finish(federation, round_id)
    made = set(listed(federation)) - before
    assert len(made) == 3  # the checkpoint and its two slots
    assert newest(federation) in made


def listed(federation: Federation) -> list[str]:
    return [blob.digest for page in federation.artifacts.pages() for blob in page]


def test_a_message_that_comes_twice_makes_no_part_twice(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    round_id = answered(federation, sites, ADAM)
    for _ in range(2):
        task("aggregate_round")(str(round_id))
    parts = open_parts(federation, round_id)
    for part in [*parts, *parts, UUID(int=7)]:
        task("aggregate_part")(str(part))
    with federation.transactions.begin("attempts") as tx:
        assert {part.attempts for part in rows.parts(tx.session, round_id)} == {1}
    finish(federation, round_id)
    assert newest(federation) == expected(ADAM)


def leased(federation: Federation, part: UUID, **later: float) -> splitting.PartLease | None:
    with federation.transactions.begin("lease_part") as tx:
        now = utc_now() + timedelta(**later)
        return splitting.lease_part(tx, part, now=now, duration=AGGREGATION_LEASE)


def test_a_worker_that_dies_over_a_part_costs_that_part(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    round_id = answered(federation, sites, ADAM)
    task("aggregate_round")(str(round_id))
    first, *others = open_parts(federation, round_id)
    dead = leased(federation, first)
    assert dead is not None
    for part in [first, *others]:
        task("aggregate_part")(str(part))
    assert open_parts(federation, round_id) == [first]
    heir = leased(federation, first, minutes=1)
    assert heir is not None
    late = splitting.make_part(dead, federation.artifacts)
    assert late == splitting.make_part(heir, federation.artifacts)
    with federation.transactions.begin("finish_part") as tx:
        assert splitting.finish_part(tx, heir, late)
    with federation.transactions.begin("finish_part") as tx:
        assert not splitting.finish_part(tx, dead, late)
    task("aggregate_round")(str(round_id))
    assert newest(federation) == expected(ADAM)


def test_a_part_over_which_every_worker_dies_fails_the_run_with_the_reason(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    round_id = answered(federation, sites, ADAM)
    task("aggregate_round")(str(round_id))
    part = open_parts(federation, round_id)[1]
    for attempt in range(splitting.MAX_PART_ATTEMPTS):
        assert leased(federation, part, minutes=attempt) is not None
    assert leased(federation, part, hours=1) is None
    with federation.transactions.begin("expire") as tx:
        tx.session.execute(text("UPDATE aggregation_parts SET lease_expires_at = now()"))
        tx.session.execute(text("UPDATE rounds SET lease_expires_at = now()"))
    task("aggregate_round")(str(round_id))
    run = run_of(federation)
    assert run.state is RunState.FAILED
    assert "5 workers died or timed out over part 2 of stage 1" in (run.state_reason or "")


def test_lost_files_of_parts_are_made_again(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    round_id = answered(federation, sites, ADAM)
    before = set(listed(federation))
    task("aggregate_round")(str(round_id))
    for part in open_parts(federation, round_id):
        task("aggregate_part")(str(part))
    lost = min(set(listed(federation)) - before)
    federation.artifacts.delete(federation.id, lost)
    task("aggregate_round")(str(round_id))
    assert run_of(federation).state is RunState.RUNNING
    finish(federation, round_id)
    assert newest(federation) == expected(ADAM)


def test_a_cancelled_round_leaves_no_parts(federation: Federation, sites: list[ActiveSite]) -> None:
    round_id = answered(federation, sites, ADAM)
    task("aggregate_round")(str(round_id))
    part = open_parts(federation, round_id)[0]
    federation.post(f"/runs/{run_of(federation).id}/cancel", expect=200)
    task("aggregate_part")(str(part))
    assert part in open_parts(federation, round_id)
    import_module("worker.tasks.rounds").sweep()
    assert open_parts(federation, round_id) == []


def test_an_unusable_update_found_by_a_part_fails_the_run(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    cohort = {"min_sites": len(NAMES)}
    a_run(federation, strategy=ADAM, cohort=cohort, deadlines={"round_seconds": 600})
    work_off(federation)
    for site, it in zip(sites, sent(), strict=True):
        delta = {**it.delta, "w": np.full_like(MODEL["w"], np.float32(3e38))}
        site.answer(site.claim(), delta)
    run = run_of(federation)
    task("step_run")(str(run.id))
    round_id = federation.round(run.id, 1).id
    finish(federation, round_id)
    assert run_of(federation).state is RunState.FAILED


def test_a_store_that_is_away_counts_as_no_attempt(
    federation: Federation, sites: list[ActiveSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    round_id = answered(federation, sites, ADAM)
    task("aggregate_round")(str(round_id))
    part = open_parts(federation, round_id)[0]

    def away(*_: object) -> None:
        raise StorageUnavailableError("the disk is away")

    with monkeypatch.context() as broken:
        broken.setattr(splitting, "make_part", away)
        task("aggregate_part")(str(part))
    with federation.transactions.begin("attempts") as tx:
        found = {it.id: it for it in rows.parts(tx.session, round_id)}[part]
        assert (found.attempts, found.lease_token) == (0, None)
        found.lease_expires_at = None
    finish(federation, round_id)
    assert newest(federation) == expected(ADAM)
