"""One clock decides, the database's: a host whose own is wrong expires nothing early or late."""

from datetime import datetime, timedelta, tzinfo
from importlib import import_module
from typing import Self

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import func, select

from app.domain import clock as host_clock
from app.main import create_app
from app.services.clock import MEASURE_EVERY_SECONDS, SLOW_SECONDS, DatabaseClock
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.states import RoundState, TaskState
from tests.factories import ActiveSite, a_federation, a_model, a_run, sites_online, work_off
from tests.workers import worker_of

CLOSE = timedelta(seconds=5)  # of a loaded machine
TEN_MINUTES = timedelta(minutes=10)


class Ticks:
    """A monotonic clock that moves when it is told to."""

    def __init__(self, *steps: float) -> None:
        self.now = 7_000.0  # seconds; where it starts means nothing
        self._steps = list(steps)  # taken one a look

    def __call__(self) -> float:
        self.now += self._steps.pop(0) if self._steps else 0.0
        return self.now


def database_now(transactions: Transactions) -> datetime:
    with transactions.begin("look") as tx:
        return tx.session.execute(select(func.clock_timestamp())).scalar_one()


def measured(clock: DatabaseClock, transactions: Transactions) -> None:
    with transactions.begin("measure") as tx:
        clock.measure_if_due(tx.session)


def test_a_clock_that_runs_wrong_is_set_right_again(transactions: Transactions) -> None:
    ticks = Ticks()
    clock = DatabaseClock(ticks)
    with pytest.raises(ValueError, match="not measured yet"):
        clock.now()
    measured(clock, transactions)
    first = clock.now()
    assert abs(first - database_now(transactions)) < CLOSE
    ticks.now += MEASURE_EVERY_SECONDS - 1
    measured(clock, transactions)  # not due: the wrong time stays
    assert clock.now() == first + timedelta(seconds=MEASURE_EVERY_SECONDS - 1)
    ticks.now += 1
    measured(clock, transactions)
    assert abs(clock.now() - database_now(transactions)) < CLOSE


def test_an_answer_that_took_long_does_not_replace_a_good_one(transactions: Transactions) -> None:
    ticks = Ticks()
    clock = DatabaseClock(ticks)
    measured(clock, transactions)
    before = clock.now()
    slow = Ticks(0, 0, 0, 10 * SLOW_SECONDS)  # is it due, began, asked, answered
    slow.now = ticks.now + MEASURE_EVERY_SECONDS
    clock._monotonic = slow  # noqa: SLF001 # pyright: ignore[reportPrivateUsage]
    measured(clock, transactions)
    elapsed = timedelta(seconds=MEASURE_EVERY_SECONDS + 10 * SLOW_SECONDS)
    assert clock.now() == before + elapsed


@pytest.mark.parametrize("off", [TEN_MINUTES, -TEN_MINUTES, timedelta(days=-20_000)])
def test_a_host_whose_clock_is_wrong_decides_like_any_other(
    settings: Settings, monkeypatch: pytest.MonkeyPatch, off: timedelta
) -> None:
    class WrongTime(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> Self:
            return super().now(tz) + off

    transactions = Transactions.from_settings(settings)
    with TestClient(create_app(settings)) as right:
        federation = a_federation(right, transactions, settings)
        bergen, oslo = sites_online(federation, "bergen", "oslo")
        a_model(federation)
        run = a_run(federation, deadlines={"round_seconds": 300})
        work_off(federation)
        bergen.claim()
    monkeypatch.setattr(host_clock, "datetime", WrongTime)  # from here on: another host
    with TestClient(create_app(settings)) as wrong, worker_of(settings, monkeypatch):
        task = ActiveSite(wrong, oslo.identity).claim()
        lease = task.lease.expires_at - database_now(transactions)
        full = timedelta(seconds=settings.task_lease_seconds)
        assert full - CLOSE < lease <= full
        beat = wire.HeartbeatReply.model_validate(
            ActiveSite(wrong, oslo.identity).beat(task).json()
        )
        assert abs(beat.expires_at - database_now(transactions) - full) < CLOSE
        tasks = import_module("worker.tasks.rounds")
        tasks.sweep()
        tasks.step_run(str(run.id))
        found = wire.RoundDetail.model_validate(
            wrong.get(
                f"/v1/federations/nordic/runs/{run.id}/rounds/1", headers=federation.owner.headers
            ).json()
        )
    assert found.state is RoundState.COLLECTING
    assert {task.state for task in found.tasks} == {TaskState.CLAIMED}
    assert abs(found.deadline_at - database_now(transactions) - timedelta(seconds=300)) < (
        3 * CLOSE
    )
    transactions.dispose()
