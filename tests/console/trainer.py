"""A small network in numpy, trained on synthetic patients of the hospital that the site is.

The site's environment names the hospital (HANSA_STAGE_HOSPITAL). Training is padded to
`pace_seconds` times the hospital's slowness, asleep: rounds look like rounds and cost nothing.
"""

import logging
import os
import threading
import zlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from hansa.trainer import EvalResult, TrainContext, TrainingStopped, TrainResult

FEATURES = 13
SLICES = 20  # reports of progress in a round
_log = logging.getLogger("hospital.training")
_never = threading.Event()


class Hospital(NamedTuple):
    patients: int
    shift: float  # of its patients' features
    slowness: float  # 1.0: as the plan says
    lacks: str = ""  # a column that nobody fills in there


HOSPITALS: Mapping[str, Hospital] = {
    "cleveland": Hospital(303, 0.0, 1.0),
    "hungary": Hospital(294, 0.3, 0.8),
    "switzerland": Hospital(123, -0.5, 0.6, lacks="chol"),
    "va": Hospital(200, 0.6, 1.4),
}
OTHER = Hospital(150, 0.1, 1.0)


class Config(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    hidden: int = Field(default=16, ge=1, le=1024)
    epochs: int = Field(default=2, ge=1, le=1000)
    learning_rate: float = Field(default=0.2, gt=0)
    pace_seconds: float = Field(default=0.2, ge=0, le=600)
    drop_missing: bool = False  # leave out patients with a column that is not filled in


class Network:
    """Features, a hidden layer of tanh, one logit."""

    applies_term = False

    @property
    def config_type(self) -> type[Config]:
        return Config

    def initial_tensors(self, config: Config, seed: int) -> dict[str, NDArray[Any]]:
        rng = np.random.default_rng(seed)

        def normal(*shape: int) -> NDArray[np.float32]:
            return rng.normal(scale=0.3, size=shape).astype(np.float32)

        return {
            "hidden.weight": normal(config.hidden, FEATURES),
            "hidden.bias": np.zeros(config.hidden, np.float32),
            "output.weight": normal(1, config.hidden),
            "output.bias": np.zeros(1, np.float32),
        }

    def train(
        self, tensors: Mapping[str, NDArray[Any]], context: TrainContext[Config]
    ) -> TrainResult:
        name, hospital = _hospital()
        config = context.config
        x, y = _patients(name, hospital, held_out=False)
        _log.info("%d patients of %s, round %d", len(y), name, context.round_number)
        if config.drop_missing and hospital.lacks:
            _log.warning("column %r is empty in %d of %d rows", hospital.lacks, len(y), len(y))
            _require_rows(hospital.lacks, seen=len(y), left=0)
        weights = {key: value.astype(np.float32) for key, value in tensors.items()}
        base_loss = _measure(weights, x, y)[0]
        for epoch in range(config.epochs):
            for rows in np.array_split(np.random.default_rng(context.seed).permutation(len(y)), 8):
                _step(weights, x[rows], y[rows], config.learning_rate)
            _log.info("epoch %d of %d: loss %.4f", epoch + 1, config.epochs, base_loss)
        _pass_time(context, config.pace_seconds * hospital.slowness)
        loss, accuracy = _measure(weights, x, y)
        return TrainResult(
            weights,
            len(y),
            {"loss": loss, "accuracy": accuracy},
            steps=8 * config.epochs,
            learning_rate=config.learning_rate,
            normaliser=8.0 * config.epochs,
            base_loss=base_loss,
        )

    def evaluate(
        self, tensors: Mapping[str, NDArray[Any]], context: TrainContext[Config]
    ) -> EvalResult:
        del context
        x, y = _patients(*_hospital(), held_out=True)
        loss, accuracy = _measure(tensors, x, y)
        return EvalResult(len(y), {"loss": loss, "accuracy": accuracy})


def _hospital() -> tuple[str, Hospital]:
    name = os.environ.get("HANSA_STAGE_HOSPITAL", "unnamed")
    return name, HOSPITALS.get(name, OTHER)


def _patients(
    name: str, hospital: Hospital, *, held_out: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return features (patients, FEATURES) and labels 0 or 1 (patients,)."""
    rng = np.random.default_rng(zlib.crc32(f"{name} {held_out}".encode()))
    number = hospital.patients // (4 if held_out else 1)
    x = rng.normal(loc=hospital.shift, size=(number, FEATURES)).astype(np.float32)
    truth = np.random.default_rng(13).normal(size=FEATURES).astype(np.float32)
    noise = rng.normal(scale=1.5, size=number)
    return x, (x @ truth + np.abs(x[:, 0]) + noise > 0).astype(np.float32)


def _forward(
    weights: Mapping[str, NDArray[Any]], x: NDArray[np.float32]
) -> tuple[NDArray[Any], NDArray[Any]]:
    hidden = np.tanh(x @ weights["hidden.weight"].T + weights["hidden.bias"])
    logits = (hidden @ weights["output.weight"].T + weights["output.bias"])[:, 0]
    return hidden, 1 / (1 + np.exp(-np.clip(logits, -30, 30)))


def _step(
    weights: dict[str, NDArray[Any]], x: NDArray[np.float32], y: NDArray[np.float32], rate: float
) -> None:
    hidden, chance = _forward(weights, x)
    error = ((chance - y) / np.float32(max(1, len(y))))[:, None].astype(np.float32)
    back = (error @ weights["output.weight"]) * (1 - hidden**2)
    step = np.float32(rate)
    weights["output.weight"] = weights["output.weight"] - step * (error.T @ hidden)
    weights["output.bias"] = weights["output.bias"] - step * error.sum(0)
    weights["hidden.weight"] = weights["hidden.weight"] - step * (back.T @ x)
    weights["hidden.bias"] = weights["hidden.bias"] - step * back.sum(0)


def _measure(
    weights: Mapping[str, NDArray[Any]], x: NDArray[np.float32], y: NDArray[np.float32]
) -> tuple[float, float]:
    """Return the mean cross-entropy and the accuracy."""
    _, chance = _forward(weights, x)
    chance = np.clip(chance, 1e-6, 1 - 1e-6)
    loss = -np.mean(y * np.log(chance) + (1 - y) * np.log(1 - chance))
    right = np.equal(chance > 0.5, y > 0.5)
    return float(loss), float(np.mean(right))


def _require_rows(column: str, *, seen: int, left: int) -> None:
    if not left:
        raise ValueError(
            f"drop_missing leaves 0 of {seen} patients: {column!r} is never filled in here"
        )


def _pass_time(context: TrainContext[Config], seconds: float) -> None:
    for index in range(SLICES):
        if context.stop_requested():
            raise TrainingStopped
        _never.wait(seconds / SLICES)
        context.report((index + 1) / SLICES)


trainer = Network()
