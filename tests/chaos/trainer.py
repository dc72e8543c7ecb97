"""The end-to-end tests' trainer with a ballast: updates large enough to be cut in the middle."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa.trainer import EvalResult, TrainContext, TrainResult
from tests.e2e.numpy_trainer import Config, LeastSquares

BALLAST = "ballast"
BALLAST_VALUES = 1 << 19  # float32: 2 MiB


class Ballasted:
    """Fits a line, and moves the ballast by noise of the round's seed."""

    def __init__(self) -> None:
        self._line = LeastSquares()

    @property
    def config_type(self) -> type[Config]:
        return Config

    def initial_tensors(self, config: Config, seed: int) -> dict[str, NDArray[Any]]:
        noise = np.random.default_rng(seed).normal(size=BALLAST_VALUES).astype(np.float32)
        return {**self._line.initial_tensors(config, seed), BALLAST: noise}

    def train(
        self, tensors: Mapping[str, NDArray[Any]], context: TrainContext[Config]
    ) -> TrainResult:
        trained = self._line.train(tensors, context)
        noise = np.random.default_rng(context.seed).normal(scale=0.01, size=BALLAST_VALUES)
        moved = tensors[BALLAST] + noise.astype(np.float32)
        return replace(trained, tensors={**trained.tensors, BALLAST: moved})

    def evaluate(
        self, tensors: Mapping[str, NDArray[Any]], context: TrainContext[Config]
    ) -> EvalResult:
        return self._line.evaluate(tensors, context)


trainer = Ballasted()
