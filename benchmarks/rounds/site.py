"""A data site whose training costs nothing: `python -m benchmarks.rounds.site`.

The runner, the journal, the transfers and the signatures are the SDK's own; only the trainer is
ours: it adds one number to the first tensor. Each of the runner's steps is written with its time to
a trace, one JSON object a line, so that the benchmark can say where a round's time went.
"""

import argparse
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel

from hansa.identity import open_state_dir
from hansa.options import RunnerEvent
from hansa.runner import SiteRunner
from hansa.site import enroll
from hansa.trainer import EvalResult, Tensors, TrainContext, TrainResult

TENSORS = 16  # a model's bytes are spread over so many arrays
FLOAT = np.dtype("<f4")


class Config(BaseModel):
    """The run's `[training]` table."""

    megabytes: float  # 10**6 bytes each


class Trace:
    """Writes what happened and when, by the clock that all processes of a machine share."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", buffering=1)

    def write(self, kind: str, fields: Mapping[str, object] | None = None) -> None:
        """Add one line: the kind, the Unix time in seconds, and the task if there is one."""
        told = {"at": time.time(), "kind": kind, "task_id": (fields or {}).get("task_id")}
        self._file.write(json.dumps(told) + "\n")

    def on_event(self, event: RunnerEvent) -> None:
        """Take an event of the runner."""
        self.write(event.kind, event.fields)


class ShiftTrainer:
    """Adds a number drawn from the round's seed to the first tensor: another update every time."""

    config_type = Config

    def __init__(self, trace: Trace) -> None:
        self._trace = trace

    def initial_tensors(self, config: Config, seed: int) -> Tensors:
        """Return float32 arrays of `config.megabytes` in all."""
        return initial_tensors(config, seed)

    def train(self, tensors: Tensors, context: TrainContext[Config]) -> TrainResult:
        """Return `tensors` with one of them shifted: as good as no training at all."""
        self._trace.write("train_began")
        shift = np.float32(1e-3 * (1 + np.random.default_rng(context.seed).random()))
        name, array = next(iter(tensors.items()))
        local: dict[str, Any] = {**tensors, name: array + shift}
        return TrainResult(tensors=local, num_examples=100, metrics={"loss": float(shift)})

    def evaluate(self, tensors: Tensors, context: TrainContext[Config]) -> EvalResult | None:
        """Return None: no data is held out."""
        del tensors, context
        return None


def initial_tensors(config: Config, seed: int) -> dict[str, Any]:
    """Return float32 arrays of `config.megabytes` in all, drawn from `seed`."""
    generator = np.random.default_rng(seed)
    elements = max(1, round(config.megabytes * 1e6 / FLOAT.itemsize / TENSORS))
    return {
        f"layer{index:02}.weight": generator.standard_normal(elements, dtype=np.float32)
        for index in range(TENSORS)
    }


def main() -> None:
    """Enroll with the invitation, then work until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hub", required=True)
    parser.add_argument("--invitation", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--state-dir", type=Path, required=True)
    parser.add_argument("--trace", type=Path, required=True)
    given = parser.parse_args()
    state = open_state_dir(given.state_dir, create=True)
    with state.locked():
        enroll(state, given.hub, given.invitation, name=given.name)
    trace = Trace(given.trace)
    runner = SiteRunner(state, ShiftTrainer(trace), on_event=trace.on_event)
    with runner.stopping_on_signals():
        runner.run()


if __name__ == "__main__":
    main()
