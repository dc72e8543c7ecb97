"""A site for tests of what strategies ask for: SGD on numpy that notes what it was given."""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.identity import StateDir, open_state_dir
from hansa.memory import MemoryLimits
from hansa.options import RunnerEvent, RunnerOptions
from hansa.runner import SiteRunner
from hansa.site import enroll
from hansa.trainer import EvalResult, Tensors, TrainContext, Trainer, TrainResult
from hansa.transport import RetryPolicy
from tests.unit.client.fake_hub import DEADLINE, FakeHub

QUICK = RetryPolicy(attempts=2, first_delay_seconds=0.001, max_delay_seconds=0.01)
STEPS, RATE = 2, 0.5


@dataclass
class Config:
    drift: float = 1.0  # the gradient of every float


@dataclass
class Seen:
    """What a trainer was called with."""

    tensors: dict[str, NDArray[Any]]
    context: TrainContext[Config]


@dataclass
class SgdTrainer:
    """Two steps of SGD by gradients drawn from the round, plus the term where it applies it."""

    applies_term: bool = True
    told: Mapping[str, Any] = field(
        default_factory=lambda: {"steps": STEPS, "learning_rate": RATE, "normaliser": 2.5}
    )
    changes_fixed: bool = False
    trained: list[Seen] = field(default_factory=list[Seen])
    evaluated: list[Seen] = field(default_factory=list[Seen])

    @property
    def config_type(self) -> type[Config]:
        return Config

    def initial_tensors(self, config: Config, seed: int) -> Tensors:
        raise NotImplementedError

    def train(self, tensors: Tensors, context: TrainContext[Config]) -> TrainResult:
        self.trained.append(Seen(dict(tensors), context))
        generator = np.random.default_rng(context.seed)
        local: dict[str, NDArray[Any]] = {}
        for name, start in tensors.items():
            gradient = context.config.drift * generator.normal(size=start.shape)
            if start.dtype.kind != "f":
                local[name] = start + 1
            elif name in context.fixed and not self.changes_fixed:
                local[name] = start
            else:
                local[name] = _descend(name, start, gradient, context)
        return TrainResult(local, 10, {}, **self.told)

    def evaluate(self, tensors: Tensors, context: TrainContext[Config]) -> EvalResult:
        self.evaluated.append(Seen(dict(tensors), context))
        return EvalResult(4, {"total": float(sum(array.sum() for array in tensors.values()))})


def _descend(
    name: str, start: NDArray[Any], gradient: NDArray[np.float64], context: TrainContext[Config]
) -> NDArray[Any]:
    w = start.astype(np.float64)
    for _ in range(STEPS):
        slope = gradient
        if context.term is not None and name in context.term.tensors:
            slope = slope + context.term.pull * (w - start)
            if context.term.shift is not None:
                slope = slope + context.term.shift[name]
        w = w - RATE * slope
    with np.errstate(over="ignore"):  # a test asks for it
        return w.astype(start.dtype)


def enrolled(hub: FakeHub, path: Path) -> StateDir:
    """Return the folder of a site that enrolled."""
    made = open_state_dir(path, create=True)
    enroll(made, hub.url, "invitation-1", name="clinic-a", retry=QUICK)
    return made


@dataclass
class Run:
    """What a runner did."""

    done: int
    failed: int
    events: list[RunnerEvent]

    def messages(self, kind: str) -> list[str]:
        return [event.message for event in self.events if event.kind == kind]


def run_site(
    state: StateDir,
    trainer: Trainer[Any],
    *,
    tasks: int = 1,
    memory: MemoryLimits | None = None,
    on_event: Callable[[RunnerEvent], None] | None = None,
) -> Run:
    """Do so many tasks and return what happened."""
    events: list[RunnerEvent] = []

    def heard(event: RunnerEvent) -> None:
        events.append(event)
        if on_event is not None:
            on_event(event)

    options = RunnerOptions(
        max_tasks=tasks,
        wait_seconds=5.0,
        call_retry=QUICK,
        outage=QUICK,
        approval=QUICK,
        memory=memory or MemoryLimits(),
    )
    runner = SiteRunner(state, trainer, options=options, on_event=heard)
    rescue = threading.Timer(DEADLINE, runner.stop)  # a broken runner fails its test, not the suite
    rescue.start()
    try:
        summary = runner.run()
    finally:
        rescue.cancel()
    return Run(summary.done, summary.failed, events)


def remembered(state: StateDir) -> set[str]:
    """Return the files of all memories, as "<task id>/<name>"."""
    files: Iterable[Path] = (state.path / "memory").glob("*/*/*.safetensors")
    return {f"{path.parent.name}/{path.stem}" for path in files}
