"""The real site in tests of secure runs: a trainer, and a runner that ends at a refusal."""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from hansa.identity import StateDir
from hansa.journal import store_tensors
from hansa.options import RunnerEvent, RunnerOptions
from hansa.runner import SiteRunner
from hansa.trainer import EvalResult, Tensors, TrainContext, TrainResult
from tests.unit.client.fake_hub import DEADLINE
from tests.unit.client.secure.hubs import SecureHub
from tests.unit.client.sites import QUICK, enrolled

MODEL = {"w": np.zeros((2, 3), np.float32), "n": np.array([5], np.int64)}
STEP = 0.5  # how far the site moves every float


@dataclass
class Config:
    step: float = STEP


@dataclass
class StepTrainer:
    """Moves every float by the step, counts integers up by one."""

    applies_term: bool = True
    during: Callable[[TrainContext[Config]], object] = lambda _: None
    told: Mapping[str, Any] = field(default_factory=dict[str, Any])
    trained: int = 0

    @property
    def config_type(self) -> type[Config]:
        return Config

    def initial_tensors(self, config: Config, seed: int) -> Tensors:
        raise NotImplementedError

    def train(self, tensors: Tensors, context: TrainContext[Config]) -> TrainResult:
        self.trained += 1
        context.report(0.5, loss=0.125)
        self.during(context)
        local = {
            name: array + array.dtype.type(context.config.step if array.dtype.kind == "f" else 1)
            for name, array in tensors.items()
        }
        return TrainResult(local, 10, {"loss": 4.0, "private": 7.0}, **self.told)

    def evaluate(self, tensors: Tensors, context: TrainContext[Config]) -> EvalResult:
        return EvalResult(5, {"accuracy": 1.0})


TRAINER = StepTrainer()  # for the command line


@dataclass
class Run:
    done: int
    failed: int
    events: list[RunnerEvent]

    def messages(self, kind: str) -> list[str]:
        return [event.message for event in self.events if event.kind == kind]


def model_bytes(tmp_path: Path) -> bytes:
    return store_tensors(tmp_path / "model.safetensors", MODEL).path.read_bytes()


def a_site(hub: SecureHub, tmp_path: Path) -> StateDir:
    return enrolled(hub, tmp_path / "site")


def run_secure(
    state: StateDir,
    hub: SecureHub,
    *,
    tasks: int = 1,
    trainer: StepTrainer | None = None,
    secure_only: bool = False,
    least_sum: int = 3,
    on_event: Callable[[RunnerEvent], object] = lambda _: None,
    until: Callable[[], object] = lambda: False,
) -> Run:
    """Run the site until so many tasks came to an end, it refused something, or `until` is so."""
    events: list[RunnerEvent] = []

    def heard(event: RunnerEvent) -> None:
        events.append(event)
        on_event(event)
        if event.kind == "secure_refused":
            leave()

    def leave() -> None:
        hub.over = hub.closing = True
        runner.stop()

    def watch() -> None:
        with hub.heard:
            hub.heard.wait_for(lambda: until() or ended.is_set(), DEADLINE)
        if not ended.is_set():
            leave()

    options = RunnerOptions(
        max_tasks=tasks,
        secure_only=secure_only,
        least_sum=least_sum,
        wait_seconds=5.0,
        call_retry=QUICK,
        outage=QUICK,
        approval=QUICK,
    )
    runner = SiteRunner(state, trainer or StepTrainer(), options=options, on_event=heard)
    hub.closing = False
    rescue = threading.Timer(DEADLINE, runner.stop)  # a broken runner fails its test, not the suite
    rescue.start()
    ended = threading.Event()
    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        summary = runner.run()
    finally:
        ended.set()
        with hub.heard:
            hub.heard.notify_all()
        watcher.join()
        rescue.cancel()
    return Run(summary.done, summary.failed, events)
