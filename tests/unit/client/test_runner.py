"""The site's loop against a hub over real HTTP: tasks, faults, stopping, refusals."""

import hashlib
import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa.errors import ReenrollError
from hansa.failures import Tracebacks
from hansa.identity import StateDir, open_state_dir
from hansa.journal import store_tensors
from hansa.options import RunnerEvent, RunnerOptions
from hansa.runner import SiteRunner
from hansa.site import enroll
from hansa.trainer import (
    EvalResult,
    Tensors,
    TrainContext,
    TrainingStopped,
    TrainResult,
    derive_seed,
)
from hansa.transport import RetryPolicy
from hansa_core.states import RoundKind, SiteState
from hansa_core.tensors import bytes_reader, read_tensors
from tests.unit.client.cutting_proxy import CuttingProxy
from tests.unit.client.fake_hub import DEADLINE, FakeHub, problem, serving

QUICK = RetryPolicy(attempts=2, first_delay_seconds=0.001, max_delay_seconds=0.01)
WEIGHTS = {"w": np.arange(6, dtype=np.float32).reshape(2, 3), "n": np.array([5], dtype=np.int64)}


@dataclass
class Config:
    step: float = 1.0


Train = Callable[[Tensors, TrainContext[Config]], Mapping[str, NDArray[Any]]]


def add_step(tensors: Tensors, context: TrainContext[Config]) -> dict[str, NDArray[Any]]:
    return {
        "w": tensors["w"] + np.float32(context.config.step),
        "n": tensors["n"] + context.round_number,
    }


class StepTrainer:
    config_type = Config

    def __init__(self, train: Train = add_step) -> None:
        self.trained = 0
        self.seeds: list[int] = []
        self._train = train

    def initial_tensors(self, config: Config, seed: int) -> Tensors:
        del config, seed
        return WEIGHTS

    def train(self, tensors: Tensors, context: TrainContext[Config]) -> TrainResult:
        self.trained += 1
        self.seeds.append(context.seed)
        return TrainResult(self._train(tensors, context), num_examples=10, metrics={"loss": 0.5})

    def evaluate(self, tensors: Tensors, context: TrainContext[Config]) -> EvalResult | None:
        return EvalResult(num_examples=4, metrics={"total": float(tensors["w"].sum())})


@pytest.fixture
def hub() -> Generator[FakeHub]:
    with serving(FakeHub()) as served:
        yield served


@pytest.fixture
def state(hub: FakeHub, tmp_path: Path) -> StateDir:
    made = open_state_dir(tmp_path / "site", create=True)
    enroll(made, hub.url, "invitation-1", name="clinic-a", retry=QUICK)
    return made


@pytest.fixture
def model(tmp_path: Path) -> bytes:
    return store_tensors(tmp_path / "model.safetensors", WEIGHTS).path.read_bytes()


@dataclass
class Run:
    done: int
    failed: int
    abandoned: int
    events: list[RunnerEvent]

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]


def run(
    state: StateDir,
    trainer: StepTrainer | None = None,
    *,
    max_tasks: int = 1,
    tracebacks: Tracebacks = Tracebacks.FULL,
    on_event: Callable[[SiteRunner, RunnerEvent], None] | None = None,
) -> Run:
    events: list[RunnerEvent] = []

    def heard(event: RunnerEvent) -> None:
        events.append(event)
        if on_event is not None:
            on_event(runner, event)

    runner = SiteRunner(
        state,
        trainer or StepTrainer(),
        options=RunnerOptions(
            max_tasks=max_tasks,
            wait_seconds=5.0,
            tracebacks=tracebacks,
            call_retry=QUICK,
            outage=QUICK,
            approval=QUICK,
        ),
        on_event=heard,
    )
    rescue = threading.Timer(DEADLINE, runner.stop)  # a broken runner fails its test, not the suite
    rescue.start()
    try:
        summary = runner.run()
    finally:
        rescue.cancel()
    return Run(summary.done, summary.failed, summary.abandoned, events)


def sent(hub: FakeHub) -> dict[str, NDArray[Any]]:
    digest, content = hub.uploads[-1]
    assert hashlib.sha256(content).hexdigest() == digest
    return read_tensors(bytes_reader(content), len(content))


def test_training_task_uploads_the_delta_and_a_signed_manifest(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    task = hub.add_task(hub.add_checkpoint(model), training={"step": 2.0}, evaluate=True)
    trainer = StepTrainer()
    assert run(state, trainer).done == 1
    np.testing.assert_array_equal(sent(hub)["w"], np.full((2, 3), 2.0, np.float32))
    np.testing.assert_array_equal(sent(hub)["n"], [1])
    manifest = hub.updates[0].manifest
    assert (manifest.task_id, manifest.round_number) == (task.id, 1)
    assert manifest.num_examples == 10
    assert manifest.metrics == {"loss": 0.5}
    assert manifest.evaluation is not None
    assert manifest.evaluation.metrics == {"total": 15.0}
    assert trainer.seeds == [derive_seed(task.seed, 1, "clinic-a")]
    assert list((state.path / "tasks").iterdir()) == []


def test_evaluation_task_reports_numbers_and_uploads_nothing(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    hub.add_task(hub.add_checkpoint(model), kind=RoundKind.EVALUATE)
    assert run(state).done == 1
    assert hub.evaluations[0].report.evaluation.num_examples == 4
    assert hub.uploads == []


def test_second_task_on_the_same_checkpoint_does_not_download_it_again(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    checkpoint = hub.add_checkpoint(model)
    hub.add_task(checkpoint)
    hub.add_task(checkpoint, kind=RoundKind.EVALUATE)
    assert run(state, max_tasks=2).done == 2
    assert hub.count("/checkpoint") == 1


def test_damaged_cached_checkpoint_is_downloaded_again(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    checkpoint = hub.add_checkpoint(model)
    hub.add_task(checkpoint)
    run(state)
    cached = state.path / "checkpoints" / f"{checkpoint.digest}.safetensors"
    cached.write_bytes(model[:-1] + b"\xff")
    hub.add_task(checkpoint)
    assert run(state).done == 1
    assert hub.count("/checkpoint") == 2


def test_two_checkpoints_are_kept(hub: FakeHub, state: StateDir, tmp_path: Path) -> None:
    for number in range(4):
        stored = store_tensors(tmp_path / "m", {**WEIGHTS, "n": np.array([number])})
        hub.add_task(hub.add_checkpoint(stored.path.read_bytes()), round_number=number + 1)
    assert run(state, max_tasks=4).done == 4
    assert len(list((state.path / "checkpoints").iterdir())) == 2


def test_trainer_exception_is_reported_with_traceback_and_the_loop_goes_on(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    def explode(tensors: Tensors, context: TrainContext[Config]) -> Tensors:
        if context.round_number == 1:
            raise ValueError("patient 17 has no age")
        return add_step(tensors, context)

    checkpoint = hub.add_checkpoint(model)
    hub.add_task(checkpoint, round_number=1)
    hub.add_task(checkpoint, round_number=2)
    result = run(state, StepTrainer(explode), max_tasks=2)
    assert (result.failed, result.done) == (1, 1)
    failure = hub.failures[0]
    assert failure.error == "ValueError: patient 17 has no age"
    assert "in explode" in failure.traceback
    assert "in _handle" not in failure.traceback  # the SDK's own frames say nothing to anybody


def test_tracebacks_none_lets_only_the_type_leave_the_site(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    def explode(tensors: Tensors, context: TrainContext[Config]) -> Tensors:
        raise ValueError("patient 17 has no age")

    hub.add_task(hub.add_checkpoint(model))
    result = run(state, StepTrainer(explode), tracebacks=Tracebacks.NONE)
    assert hub.failures[0].error.startswith("ValueError (")
    assert hub.failures[0].traceback == ""
    assert "patient 17" in str(result.events[-2].fields["traceback"])  # told at the site


def test_wrong_training_table_is_reported_by_field(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    hub.add_task(hub.add_checkpoint(model), training={"step": "two", "stepp": 1})
    assert run(state).failed == 1
    assert "training.step" in hub.failures[0].error
    assert "training.stepp" in hub.failures[0].error


def test_delta_that_is_not_finite_never_leaves_the_site(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    def diverge(tensors: Tensors, context: TrainContext[Config]) -> Tensors:
        return {**tensors, "w": np.full((2, 3), np.nan, np.float32)}

    hub.add_task(hub.add_checkpoint(model))
    assert run(state, StepTrainer(diverge)).failed == 1
    assert "w: 6 of 6 values are not finite" in hub.failures[0].error
    assert hub.uploads == []


def test_trainer_that_changes_the_global_model_in_place_fails_loudly(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    def in_place(tensors: Tensors, context: TrainContext[Config]) -> Tensors:
        tensors["w"][:] += 1
        return tensors

    hub.add_task(hub.add_checkpoint(model))
    assert run(state, StepTrainer(in_place)).failed == 1
    assert "read-only" in hub.failures[0].error


def test_refused_update_is_reported_and_not_offered_again(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    hub.add_task(hub.add_checkpoint(model))
    hub.fail("PUT", "/artifacts/", lambda: problem(422, "update-refused", "w has the wrong shape"))
    assert run(state).failed == 1
    assert "wrong shape" in hub.failures[0].error
    assert list((state.path / "tasks").iterdir()) == []


def test_refused_token_is_renewed_once_in_the_middle_of_a_task(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    hub.add_task(hub.add_checkpoint(model))

    def forget(runner: SiteRunner, event: RunnerEvent) -> None:
        if event.kind == "trained":
            hub.tokens.clear()

    assert run(state, on_event=forget).done == 1
    assert hub.count("/tokens") == 2


@pytest.mark.parametrize("skew_hours", [-3, 0, 3])
def test_token_lives_by_the_hubs_clock_however_wrong_the_sites_is(
    hub: FakeHub, state: StateDir, model: bytes, skew_hours: int
) -> None:
    hub.clock_skew = timedelta(hours=skew_hours)
    checkpoint = hub.add_checkpoint(model)
    hub.add_task(checkpoint)
    assert run(state).done == 1
    assert hub.count("/tokens") == 1
    hub.token_life = timedelta(seconds=-1)  # every token is due for renewal at once
    hub.add_task(checkpoint)
    assert run(state).done == 1
    assert hub.count("/tokens") > 3
    assert hub.count("POST /v1/tasks/claim") == 2  # none was refused: no old one was sent


def test_lost_lease_abandons_the_task_without_a_failure_report(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    hub.add_task(hub.add_checkpoint(model))
    hub.fail("PUT", "/update", lambda: problem(409, "lease-lost", "another process has it"))
    trainer = StepTrainer()
    first = run(state, trainer)
    assert (first.abandoned, hub.failures) == (1, [])
    # The hub hands it out again: the answer is ready, nothing is trained twice.
    assert run(state, trainer).done == 1
    assert trainer.trained == 1
    assert hub.uploads[0] == hub.uploads[1]


def test_closed_task_is_abandoned_and_forgotten(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    hub.add_task(hub.add_checkpoint(model))
    hub.fail("PUT", "/update", lambda: problem(409, "task-closed", "the round closed"))
    assert run(state).abandoned == 1
    assert hub.failures == []
    assert list((state.path / "tasks").iterdir()) == []


def test_stop_wish_in_a_heartbeat_stops_the_training(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    def until_stopped(tensors: Tensors, context: TrainContext[Config]) -> Tensors:
        context.report(0.25, loss=0.125, bad=float("nan"))
        hub.wait_for(lambda: any(beat.progress.fraction == 0.25 for beat in hub.beats))
        hub.stop_reason = "the run was cancelled"
        deadline = threading.Event()
        while not context.stop_requested():
            assert not deadline.wait(0.005)
        raise TrainingStopped

    hub.add_task(hub.add_checkpoint(model), heartbeat_seconds=0.02)
    result = run(state, StepTrainer(until_stopped))
    assert (result.abandoned, hub.failures) == (1, [])
    assert "the run was cancelled" in result.events[-2].message
    told = next(beat.progress for beat in hub.beats if beat.progress.fraction == 0.25)
    assert told.metrics == {"loss": 0.125}


def test_outage_of_the_hub_is_waited_out(hub: FakeHub, state: StateDir, model: bytes) -> None:
    hub.add_task(hub.add_checkpoint(model))
    for method, part in (("POST", "/claim"), ("PUT", "/artifacts/"), ("PUT", "/update")):
        hub.fail(method, part, lambda: problem(503, "not-ready"), times=5)
    trainer = StepTrainer()
    result = run(state, trainer)
    assert (result.done, trainer.trained) == (1, 1)
    assert result.kinds().count("hub_unreachable") == 2  # claiming, then sending
    assert result.kinds().count("hub_reached") == 2


def test_cut_connections_in_both_directions_cost_nothing_but_time(
    hub: FakeHub, state: StateDir, tmp_path: Path
) -> None:
    big = {"w": np.ones((512, 1024), np.float32)}  # 2 MiB
    content = store_tensors(tmp_path / "big", big).path.read_bytes()
    with CuttingProxy(hub.port) as proxy:
        record = state.record()
        assert record is not None
        state.record_path.write_text(
            record.model_copy(update={"hub_url": proxy.url}).model_dump_json()
        )
        hub.add_task(hub.add_checkpoint(content))
        # The first connection carries the claim; the second one, for bytes, dies in the download,
        # and the one after it in the upload.
        never = 10**9
        proxy.cut_answers_after = [never, 1_000_000]
        proxy.cut_requests_after = [never, never, 1_000_000]

        def plus_one(tensors: Tensors, context: TrainContext[Config]) -> Tensors:
            return {"w": tensors["w"] + np.float32(1)}

        assert run(state, StepTrainer(plus_one)).done == 1
        assert proxy.cuts == 2
    assert len(hub.ranges) == 1
    np.testing.assert_array_equal(sent(hub)["w"], big["w"])


def test_pending_site_waits_for_approval_and_names_its_fingerprint(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    hub.state = SiteState.PENDING
    hub.add_task(hub.add_checkpoint(model))

    def approve(runner: SiteRunner, event: RunnerEvent) -> None:
        if event.kind == "approval_awaited":
            assert hub.view().fingerprint in event.message
            hub.state = SiteState.ACTIVE

    result = run(state, on_event=approve)
    assert result.done == 1
    assert result.kinds()[:3] == ["runner_started", "approval_awaited", "site_active"]


def test_revoked_site_ends_its_runner_and_says_why(hub: FakeHub, state: StateDir) -> None:
    hub.state = SiteState.REVOKED
    with pytest.raises(ReenrollError, match="the site is revoked"):
        run(state)


def test_suspended_site_waits_until_it_is_reinstated(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    hub.state = SiteState.SUSPENDED
    hub.add_task(hub.add_checkpoint(model))

    def reinstate(runner: SiteRunner, event: RunnerEvent) -> None:
        if event.kind == "site_not_active":
            hub.state = SiteState.ACTIVE

    assert run(state, on_event=reinstate).done == 1


def test_unknown_site_is_told_to_enroll_again(hub: FakeHub, state: StateDir) -> None:
    hub.public_key = b"\0" * 32  # the hub was set up anew
    with pytest.raises(ReenrollError, match="clinic-a") as caught:
        run(state)
    assert "enroll again" in (caught.value.hint or "")


def test_stop_ends_the_loop_after_the_task_at_hand(
    hub: FakeHub, state: StateDir, model: bytes
) -> None:
    checkpoint = hub.add_checkpoint(model)
    hub.add_task(checkpoint)
    hub.add_task(checkpoint, round_number=2)

    def stop(runner: SiteRunner, event: RunnerEvent) -> None:
        if event.kind == "task_claimed":
            runner.stop()

    assert run(state, max_tasks=9, on_event=stop).done == 1
    assert len(hub.tasks) == 1
