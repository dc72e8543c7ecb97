"""Federated averaging in one process, without a hub: to choose settings and to compare with.

The arithmetic is the plain one: the mean of the sites' deltas, weighted by their examples
(McMahan et al. 2017, algorithm 1). A "federation" of one site is that site training alone.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from hansa.trainer import (
    Tensors,
    TrainContext,
    Trainer,
    TrainResult,
    delta,
    derive_seed,
    parse_config,
)


@dataclass(frozen=True, slots=True)
class Plan:
    """The parts of a run plan that decide the arithmetic."""

    seed: int
    rounds: int
    training: Mapping[str, JsonValue]


def load_plan(path: Path) -> Plan:
    """Return the plan in a TOML file."""
    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return Plan(document["seed"], document["rounds"], document["training"])


def federate(trainers: Mapping[str, Trainer[Any]], plan: Plan) -> Tensors:
    """Return the global model after `plan.rounds` rounds over these sites, by site name."""
    first = next(iter(trainers.values()))
    config = parse_config(first.config_type, plan.training)
    tensors: Tensors = first.initial_tensors(config, plan.seed)
    for round_number in range(1, plan.rounds + 1):
        results: list[TrainResult] = []
        for name, trainer in sorted(trainers.items()):
            seed = derive_seed(plan.seed, round_number, name)
            results.append(trainer.train(tensors, TrainContext(config, seed, round_number)))
        tensors = average(tensors, results)
    return tensors


def average(tensors: Tensors, results: list[TrainResult]) -> dict[str, NDArray[Any]]:
    """Return `tensors` plus the mean of the deltas, weighted by examples, summed in float64."""
    deltas = [delta(result.tensors, tensors) for result in results]
    total = sum(result.num_examples for result in results)
    averaged: dict[str, NDArray[Any]] = {}
    for name, base in tensors.items():
        step = sum(
            (
                part[name].astype(np.float64) * (result.num_examples / total)
                for part, result in zip(deltas, results, strict=True)
            ),
            start=np.zeros(base.shape),
        )
        moved = base + (np.rint(step) if base.dtype.kind == "i" else step)
        averaged[name] = np.asarray(moved).astype(base.dtype)
    return averaged
