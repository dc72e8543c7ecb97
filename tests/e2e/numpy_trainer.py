"""A trainer without torch: least squares by gradient descent, slowed down so that kills hit it.

The site's environment says which data it has (HANSA_E2E_DATA, a seed) and whether its training
fails (HANSA_E2E_FAILS, the message). All else derives from the round's seed.
"""

import logging
import os
import threading
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from hansa.trainer import EvalResult, TrainContext, TrainingStopped, TrainResult

log = logging.getLogger(__name__)

EXAMPLES, FEATURES = 60, 5  # x: one row an example, one column a feature
BATCH = 20
WAIT_SECONDS = 0.01  # of one step
ONE_WEIGHT = "weight"

_never = threading.Event()


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    steps: int = Field(default=20, ge=1, le=100_000)
    learning_rate: float = Field(default=0.05, gt=0)


class LeastSquares:
    """Fits a line to the site's examples by plain SGD."""

    applies_term = True

    @property
    def config_type(self) -> type[Config]:
        return Config

    def initial_tensors(self, config: Config, seed: int) -> dict[str, NDArray[Any]]:
        del config
        return {ONE_WEIGHT: np.random.default_rng(seed).normal(size=FEATURES).astype(np.float32)}

    def train(
        self, tensors: Mapping[str, NDArray[Any]], context: TrainContext[Config]
    ) -> TrainResult:
        if message := os.environ.get("HANSA_E2E_FAILS"):
            log.warning("no scans to be found")
            raise ValueError(message)
        x, y = _data()
        weight = tensors[ONE_WEIGHT].copy()
        order = np.random.default_rng(context.seed)
        for step in range(context.config.steps):
            if context.stop_requested():
                raise TrainingStopped
            _never.wait(WAIT_SECONDS)
            batch = order.choice(EXAMPLES, BATCH, replace=False)
            error = x[batch] @ weight - y[batch]
            moved = np.float32(context.config.learning_rate / BATCH) * (error @ x[batch])
            if context.term is not None:
                rate = np.float32(context.config.learning_rate)
                moved += rate * np.float32(context.term.pull) * (weight - tensors[ONE_WEIGHT])
                if context.term.shift is not None:
                    moved += rate * context.term.shift[ONE_WEIGHT]
            weight -= moved
            context.report(step / context.config.steps)
        return TrainResult(
            {ONE_WEIGHT: weight},
            EXAMPLES,
            {"loss": _loss(weight)},
            steps=context.config.steps,
            learning_rate=context.config.learning_rate,
            normaliser=float(context.config.steps),
            base_loss=_loss(tensors[ONE_WEIGHT]),
        )

    def evaluate(
        self, tensors: Mapping[str, NDArray[Any]], context: TrainContext[Config]
    ) -> EvalResult:
        del context
        return EvalResult(EXAMPLES, {"loss": _loss(tensors[ONE_WEIGHT])})


def _data() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(int(os.environ["HANSA_E2E_DATA"]))
    x = rng.normal(size=(EXAMPLES, FEATURES)).astype(np.float32)
    truth = np.arange(FEATURES, dtype=np.float32)
    noise = rng.normal(scale=0.1, size=EXAMPLES).astype(np.float32)
    return x, x @ truth + noise


def _loss(weight: NDArray[Any]) -> float:
    x, y = _data()
    return float(np.mean((x @ weight - y) ** 2))


trainer = LeastSquares()
