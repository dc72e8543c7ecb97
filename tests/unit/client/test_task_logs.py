"""What a site tells beside a failure: the end of its log, and its policy; nothing it may not."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from hansa.failures import Tracebacks
from hansa.identity import StateDir
from hansa.options import SHARED_LINES, RunnerEvent, RunnerOptions
from hansa.policies import UNREADABLE
from hansa.runner import SiteRunner
from hansa.secure.peers import Peers, PeersMode
from hansa.site import SiteClient
from hansa.task_logs import TaskLog, captured
from hansa.trainer import Tensors, TrainContext, TrainResult
from hansa_core import wire
from tests.tensors import BASE, encode
from tests.unit.client.fake_hub import FakeHub, serving
from tests.unit.client.sites import QUICK, Config, SgdTrainer, enrolled

log = logging.getLogger("clinic.trainer")


@dataclass
class FailingTrainer(SgdTrainer):
    """Says something, then fails."""

    say: Callable[[], None] = lambda: None
    error: str = "patient 17 has no age"

    def train(self, tensors: Tensors, context: TrainContext[Config]) -> TrainResult:
        del tensors, context
        self.say()
        raise ValueError(self.error)


class OlderHub(FakeHub):
    """One that knows neither a site's policy nor its log, and refuses what it does not know."""

    def __init__(self) -> None:
        super().__init__()
        self.refused: list[str] = []

    async def claim(self, request: Request) -> Response:
        return await self._unless(request, "policy") or await super().claim(request)

    async def failure(self, request: Request) -> Response:
        return await self._unless(request, "log") or await super().failure(request)

    async def _unless(self, request: Request, field: str) -> Response | None:
        if field not in await request.json():
            return None
        self.refused.append(field)
        message = "Extra inputs are not permitted"
        told = wire.Problem(
            type="urn:hansa:problem:invalid-request",
            title="Invalid request",
            status=422,
            detail=f"{field}: {message}",
            slug="invalid-request",
            errors=[wire.FieldError(path=field, message=message)],
        )
        return JSONResponse(told.model_dump(), 422, media_type="application/problem+json")


@pytest.fixture
def hub() -> Generator[FakeHub]:
    with serving(FakeHub()) as served:
        yield served


@pytest.fixture
def state(hub: FakeHub, tmp_path: Path) -> StateDir:
    return enrolled(hub, tmp_path / "site")


@contextmanager
def logging_with(*handlers: logging.Handler, level: int = logging.WARNING) -> Generator[None]:
    """Let the root logger have these handlers alone; none: nobody has configured logging.

    Inside of a test: pytest adds its own after all fixtures.
    """
    root = logging.getLogger()
    before = root.handlers[:], root.level
    root.handlers[:] = handlers
    root.setLevel(level)
    try:
        yield
    finally:
        root.handlers[:] = before[0]
        root.setLevel(before[1])


def run(state: StateDir, trainer: SgdTrainer, *, tasks: int = 1, **options: Any) -> int:
    """Do so many tasks, logging as it is at first; return how many failed."""
    chosen = RunnerOptions(
        max_tasks=tasks,
        wait_seconds=5.0,
        call_retry=QUICK,
        outage=QUICK,
        approval=QUICK,
        **options,
    )
    with logging_with():
        return SiteRunner(state, trainer, options=chosen).run().failed


def say_a_lot() -> None:
    log.debug("too small to tell")
    for number in range(100):
        log.info("step %d", number)
    log.warning("loss is %.1f", float("nan"))


def test_a_failure_carries_the_last_lines_of_the_log(hub: FakeHub, state: StateDir) -> None:
    hub.add_task(hub.add_checkpoint(encode(BASE)))
    with logging_with():
        log.warning("before the task")
    assert run(state, FailingTrainer(say=say_a_lot)) == 1
    lines = hub.failures[0].log.splitlines()
    assert len(lines) == SHARED_LINES
    assert lines[-1].endswith("WARNING clinic.trainer: loss is nan")
    assert lines[-2].endswith("INFO clinic.trainer: step 99")
    assert lines[0].endswith(f"step {100 - SHARED_LINES + 1}")


def test_each_task_has_a_log_of_its_own(hub: FakeHub, state: StateDir) -> None:
    checkpoint = hub.add_checkpoint(encode(BASE))
    hub.add_task(checkpoint, round_number=1)
    hub.add_task(checkpoint, round_number=2)
    said = iter(["first", "second"])
    assert run(state, FailingTrainer(say=lambda: log.info(next(said))), tasks=2) == 2
    assert ["first" in it.log for it in hub.failures] == [True, False]
    assert ["second" in it.log for it in hub.failures] == [False, True]
    assert "httpx2" not in hub.failures[0].log  # which tells of every request


@pytest.mark.parametrize(
    ("options", "lines"),
    [
        ({"share_log": 2}, 2),
        ({"share_log": 0}, 0),
        ({"tracebacks": Tracebacks.NONE}, 0),
        ({"tracebacks": Tracebacks.NONE, "share_log": 3}, 3),
    ],
)
def test_the_operator_says_how_much_of_the_log_leaves(
    hub: FakeHub, state: StateDir, options: dict[str, Any], lines: int
) -> None:
    hub.add_task(hub.add_checkpoint(encode(BASE)))
    assert run(state, FailingTrainer(say=say_a_lot), **options) == 1
    assert len(hub.failures[0].log.splitlines()) == lines


def test_a_site_for_secure_runs_alone_shares_its_log_only_when_told_to() -> None:
    assert RunnerOptions().shared_lines == SHARED_LINES
    assert RunnerOptions(secure_only=True).shared_lines == 0
    assert RunnerOptions(secure_only=True, share_log=5).shared_lines == 5


def test_the_policy_goes_with_every_claim(hub: FakeHub, state: StateDir) -> None:
    hub.add_task(hub.add_checkpoint(encode(BASE)))
    assert run(state, SgdTrainer(), least_sum=7) == 0
    assert hub.policy == wire.SitePolicy(
        secure_only=False,
        least_sum=7,
        tracebacks="full",
        share_log=SHARED_LINES,
        peers="first-use",
        features=[str(feature) for feature in wire.Feature],
    )
    Peers(state.path).set_mode(PeersMode.PINNED)
    hub.add_task(hub.add_checkpoint(encode(BASE)), round_number=2)
    assert run(state, SgdTrainer(), tracebacks=Tracebacks.NONE) == 0
    assert told(hub) == ("pinned", 0, "none")
    (state.path / "peers.json").write_text("{")  # secure rounds stop, others go on
    hub.add_task(hub.add_checkpoint(encode(BASE)), round_number=3)
    assert run(state, SgdTrainer()) == 0
    assert told(hub) == (UNREADABLE, SHARED_LINES, "full")


def told(hub: FakeHub) -> tuple[str, int, str]:
    assert hub.policy is not None
    return hub.policy.peers, hub.policy.share_log, hub.policy.tracebacks


def test_an_older_hub_is_told_what_it_knows(tmp_path: Path) -> None:
    with serving(OlderHub()) as hub:
        assert isinstance(hub, OlderHub)
        state = enrolled(hub, tmp_path / "site")
        checkpoint = hub.add_checkpoint(encode(BASE))
        for number in (1, 2, 3):
            hub.add_task(checkpoint, round_number=number)
        assert run(state, FailingTrainer(say=say_a_lot), tasks=3) == 3
        assert [it.error for it in hub.failures] == ["ValueError: patient 17 has no age"] * 3
        assert {it.log for it in hub.failures} == {""}
        assert hub.policy is None
        assert hub.refused == ["policy", "log"]  # once each, not with every request


def test_an_error_without_words_is_reported_with_some(hub: FakeHub, state: StateDir) -> None:
    task = hub.add_task(hub.add_checkpoint(encode(BASE)))
    with SiteClient(state.identity(), retry=QUICK) as client:
        client.fail(task, "  ", "", log="said")
    assert hub.failures[0].log == "said"
    assert hub.failures[0].error  # never empty


def test_text_that_is_no_unicode_does_not_end_the_loop(hub: FakeHub, state: StateDir) -> None:
    """A file's name may be in a message, and on Linux that is any bytes."""
    name = "scan-\udcff.dcm"
    hub.add_task(hub.add_checkpoint(encode(BASE)))
    trainer = FailingTrainer(say=lambda: log.error("cannot read %s", name), error=name)
    assert run(state, trainer) == 1
    assert hub.failures[0].error == "ValueError: scan-?.dcm"
    assert hub.failures[0].log.endswith("cannot read scan-?.dcm")


def test_logging_is_left_as_it_was(capsys: pytest.CaptureFixture[str]) -> None:
    root, factory = logging.getLogger(), logging.getLogRecordFactory()
    with logging_with():
        with captured(5) as outer, captured(2) as inner:
            log.info("seen by both")
            assert capsys.readouterr().err == ""  # INFO is not shown where nobody asked for it
            log.warning("shown as ever")
            assert capsys.readouterr().err == "shown as ever\n"
            assert root.handlers == []
            logging.basicConfig(stream=StringIO())  # a trainer may
            assert len(root.handlers) == 1
        assert (root.level, logging.getLogRecordFactory()) == (logging.WARNING, factory)
        log.warning("afterwards")
    assert "seen by both" in inner.text()
    assert outer.text() == inner.text()
    assert "afterwards" not in outer.text()


def test_what_is_configured_decides_what_is_noted() -> None:
    shown = StringIO()
    with (
        logging_with(logging.StreamHandler(shown), level=logging.ERROR),
        captured(5) as seen,
    ):
        log.warning("not wanted here")
        log.error("wanted")
    assert shown.getvalue() == "wanted\n"
    assert seen.text().endswith("ERROR clinic.trainer: wanted")
    assert "not wanted" not in seen.text()


class Unprintable:
    def __str__(self) -> str:
        raise ZeroDivisionError


def test_a_record_that_cannot_be_written_fails_no_task() -> None:
    with logging_with(logging.NullHandler()), captured(5) as seen:
        log.error("see %s", Unprintable())
    assert seen.text() == "ERROR clinic.trainer: 'see %s' (ZeroDivisionError)"


def test_a_traceback_in_the_log_counts_by_its_lines() -> None:
    ages: dict[int, int] = {}
    with logging_with(logging.NullHandler()), captured(3) as seen:
        try:
            ages[17]
        except KeyError:
            log.exception("no such patient")
    assert seen.text().splitlines()[-1] == "KeyError: 17"
    assert len(seen.text().splitlines()) == 3


def test_a_log_is_never_longer_than_the_wire_takes() -> None:
    kept = TaskLog(10)
    for _ in range(20):
        kept.note("x" * wire.MAX_LOG * 2 + "\nend")
    assert len(kept.text()) == wire.MAX_LOG
    assert kept.text().endswith("\nend")
    told = wire.TaskFailure(lease_token=uuid4(), error="e", log=kept.text())
    assert len(told.log) == wire.MAX_LOG


def test_events_of_a_failure_stay_as_they_were(hub: FakeHub, state: StateDir) -> None:
    events: list[RunnerEvent] = []
    hub.add_task(hub.add_checkpoint(encode({"w": np.ones(3, np.float32)})))
    options = RunnerOptions(max_tasks=1, wait_seconds=5.0, call_retry=QUICK, outage=QUICK)
    SiteRunner(state, FailingTrainer(), options=options, on_event=events.append).run()
    (failed,) = [event for event in events if event.kind == "task_failed"]
    assert set(failed.fields) == {"task_id", "traceback"}
