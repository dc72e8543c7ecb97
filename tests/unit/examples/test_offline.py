"""Federated averaging in one process, on numbers worked out by hand."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from examples.metrics import accuracy, roc_auc
from examples.offline import Plan, average, federate
from hansa.trainer import EvalResult, Tensors, TrainContext, TrainResult, derive_seed


@dataclass(frozen=True)
class _Settings:
    step: float


@dataclass(frozen=True)
class _Adder:
    """Adds the step times its own factor to the weight and one to the counter."""

    factor: float
    examples: int
    seeds: list[int]
    config_type: type[_Settings] = _Settings

    def initial_tensors(self, config: _Settings, seed: int) -> Tensors:
        return {"w": np.zeros(2, np.float32), "n": np.array(seed, np.int64)}

    def train(self, tensors: Tensors, context: TrainContext[_Settings]) -> TrainResult:
        self.seeds.append(context.seed)
        step = np.float32(context.config.step * self.factor)
        local: Mapping[str, np.ndarray] = {"w": tensors["w"] + step, "n": tensors["n"] + 1}
        return TrainResult(local, self.examples, {})

    def evaluate(self, tensors: Tensors, context: TrainContext[_Settings]) -> EvalResult | None:
        return None


def test_rounds_add_up_weighted_by_examples() -> None:
    one, two = _Adder(1, 10, []), _Adder(5, 30, [])
    tensors = federate({"one": one, "two": two}, Plan(seed=3, rounds=2, training={"step": 0.5}))
    assert tensors["w"].tolist() == [2 * (0.25 * 0.5 + 0.75 * 2.5)] * 2
    assert tensors["w"].dtype == np.float32
    assert (tensors["n"].item(), tensors["n"].dtype, tensors["n"].shape) == (3 + 2, np.int64, ())
    assert one.seeds == [derive_seed(3, 1, "one"), derive_seed(3, 2, "one")]


def test_integers_move_by_the_rounded_mean() -> None:
    base = {"n": np.array([10, 10], np.int64)}
    results = [
        TrainResult({"n": np.array([11, 10], np.int64)}, 3, {}),
        TrainResult({"n": np.array([14, 11], np.int64)}, 1, {}),
    ]
    assert average(base, results)["n"].tolist() == [12, 10]  # 10 + 1.75, 10 + 0.25


def test_auc_counts_ordered_pairs_and_half_the_ties() -> None:
    outputs = torch.tensor([[0.9], [0.1], [0.5], [0.5]])
    targets = torch.tensor([[1.0], [0.0], [1.0], [0.0]])
    assert roc_auc(outputs, targets) == pytest.approx((2 + 1.5) / 4)
    assert math.isnan(roc_auc(outputs[:1], targets[:1]))


def test_accuracy_of_logits_and_of_classes() -> None:
    assert accuracy(torch.tensor([[2.0], [-1.0], [3.0]]), torch.tensor([[1.0], [1.0], [1.0]])) == (
        pytest.approx(2 / 3)
    )
    assert accuracy(torch.tensor([[1.0, 2.0], [3.0, 0.0]]), torch.tensor([1, 1])) == 0.5
