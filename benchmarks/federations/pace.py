"""Strategies for seldom, and for unequally quick, communication; and what codecs cost.

- Douillard et al. 2023, DiLoCo: many local AdamW steps, then an outer Nesterov step, against the
  plain mean at the same communication.
- Nguyen et al. 2022, FedBuff: sites of unequal speed; time, not rounds, to a target.
- Codecs: accuracy and bytes after the same rounds as without one.
"""

import heapq
import itertools
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from pydantic import JsonValue

from benchmarks.federations.dense import DenseTrainer
from benchmarks.federations.digits import all_digits, deal, held_out
from benchmarks.federations.experiments import (
    Arm,
    Column,
    Experiment,
    Numbers,
    curve_of,
    last,
    plan_of,
    rounds_to,
)
from benchmarks.federations.models import network, trainer_of
from benchmarks.federations.simulated import Base, Federation, Site, Trained

RATES = (0.1, 0.3, 1.0)
BUFFER_TARGET = 0.9


def run_outer(arm: Arm, seed: int, rounds: int) -> Numbers:
    """Eight sites, evenly dealt, AdamW."""
    rng = np.random.default_rng(seed)
    train, test = held_out(all_digits(), rng)
    parts = deal(train, 8, 100, rng)
    sites = [
        Site(f"site-{index}", trainer_of(network, part, test)) for index, part in enumerate(parts)
    ]
    federation = Federation(plan_of(arm, seed, rounds), sites)
    everyone = trainer_of(network, train, test)
    losses: list[float] = []

    def accuracy() -> float:
        metrics = federation.evaluate_for(everyone).metrics
        losses.append(metrics["loss"])
        return metrics["accuracy"]

    curve = curve_of(federation, rounds, accuracy)
    return {"rounds": rounds_to(0.9, curve), "loss": losses[-1], "accuracy": last(curve, 5)}


def run_clock(arm: Arm, seed: int, rounds: int) -> Numbers:
    """Return the time to the target, in that of a training at the quickest site.

    Twenty sites whose speeds are as unequal as a lognormal's; ten train at a time. Synchronous
    rounds take as long as their slowest site; buffered ones close when the buffer is full.
    """
    rng = np.random.default_rng(seed)
    train, test = held_out(all_digits(), rng)
    sites = [
        Site(f"site-{index:02}", DenseTrainer(part, test, 64))
        for index, part in enumerate(deal(train, 20, 0.3, rng))
    ]
    speeds = np.sort(rng.lognormal(0.0, 1.0, len(sites)))
    rng.shuffle(speeds)
    seconds = dict(
        zip((site.name for site in sites), (speeds / speeds.min()).tolist(), strict=True)
    )
    federation = Federation(plan_of(arm, seed, rounds), sites)
    everyone = DenseTrainer(train, test, 64)
    ends: list[float] = []
    if federation.plan.buffer is None:
        curve: list[float] = []
        clock = 0.0
        for _ in range(rounds):
            asked = sorted(federation.cohort(), key=seconds.__getitem__)
            first = asked[: federation.plan.cohort.size]  # whose answers close the round
            clock += seconds[first[-1]]
            federation.round(first)
            ends.append(clock)
            curve.append(federation.evaluate_for(everyone).metrics["accuracy"])
    else:
        ends, curve = _buffered(federation, seconds, everyone, rounds, rng)
    reached = rounds_to(BUFFER_TARGET, curve)
    return {
        "time": None if reached is None else ends[int(reached) - 1],
        "rounds": reached,
        "accuracy": last(curve),
    }


def _buffered(
    federation: Federation,
    seconds: Mapping[str, float],
    everyone: DenseTrainer,
    rounds: int,
    rng: np.random.Generator,
) -> tuple[list[float], list[float]]:
    """Return when rounds ended, and the accuracies, of a run with a buffer."""
    buffer = federation.plan.buffer
    if buffer is None:
        raise ValueError("wanted a plan with a buffer")
    count = itertools.count(1)
    at_work: list[tuple[float, int, str, Base]] = []  # by when they end
    idle = list(seconds)

    def begin(clock: float) -> None:
        name = idle.pop(int(rng.integers(len(idle))))
        heapq.heappush(at_work, (clock + seconds[name], next(count), name, federation.base))

    for _ in range(buffer.concurrency):
        begin(0.0)
    ends: list[float] = []
    curve: list[float] = []
    held: list[Trained] = []
    while len(curve) < rounds:
        clock, nonce, name, base = heapq.heappop(at_work)
        if federation.base.round_number - base.round_number <= buffer.max_staleness:
            held.append(federation.train(name, base, nonce))
        if len(held) == buffer.size:
            federation.close(held)
            held = []
            ends.append(clock)
            curve.append(federation.evaluate_for(everyone).metrics["accuracy"])
        idle.append(name)
        begin(clock)
    return ends, curve


def run_codec(arm: Arm, seed: int, rounds: int) -> Numbers:
    """Ten sites of unequal labels, everybody in every round."""
    rng = np.random.default_rng(seed)
    train, test = held_out(all_digits(), rng)
    sites = [
        Site(f"site-{index}", DenseTrainer(part, test, 256))
        for index, part in enumerate(deal(train, 10, 0.3, rng))
    ]
    federation = Federation(plan_of(arm, seed, rounds), sites)
    everyone = DenseTrainer(train, test, 256)
    curve = curve_of(
        federation, rounds, lambda: federation.evaluate_for(everyone).metrics["accuracy"]
    )
    return {
        "accuracy": last(curve, 5),
        "early": last(curve[:10], 1),
        "rounds": rounds_to(0.9, curve),
        "kilobytes": federation.bytes_sent / rounds / 1e3,
    }


def _outer(
    label: str,
    rate: float,
    strategy: Mapping[str, Any] | None = None,
    rates: Sequence[float] = (3e-3, 1e-2),
) -> Arm:
    plan: dict[str, Any] = {
        "strategy": strategy or {"name": "fedavg"},
        "training": {
            "epochs": 2,
            "batch_size": 32,
            "optimizer": "adamw",
            "learning_rate": rate,
        },
    }
    grid: dict[str, Sequence[float]] = {"training.learning_rate": rates}
    if strategy is not None:
        grid |= {"strategy.lr": (0.3, 0.7), "strategy.momentum": (0.5, 0.9)}
    return Arm(label, plan, grid)


_DILOCO = {"name": "diloco", "lr": 0.7, "momentum": 0.9}

OUTER = Experiment(
    name="diloco",
    claim="AdamW inside: an outer Nesterov step needs fewer rounds than the plain mean",
    run=run_outer,
    rounds=20,
    columns=(
        Column("rounds", "rounds to 0.9", 1, rises=False),
        Column("loss", "loss at last", rises=False),
        Column("accuracy", "accuracy of the last 5"),
    ),
    arms=(
        _outer("fedavg, small steps", 1e-3, rates=(1e-3,)),
        _outer("diloco, small steps", 1e-3, _DILOCO, (1e-3,)),
        _outer("fedavg, best steps", 1e-2),
        _outer("diloco, best steps", 1e-2, {**_DILOCO, "momentum": 0.5}),
    ),
)


def _clocked(label: str, rate: float, **sections: JsonValue) -> Arm:
    plan = {"training": {"epochs": 3, "batch_size": 32, "learning_rate": rate}, **sections}
    return Arm(label, plan, {"training.learning_rate": RATES})


_TEN: dict[str, JsonValue] = {"min_sites": 10, "choose": "random", "size": 10}
_FIVE: dict[str, JsonValue] = {"size": 5, "concurrency": 10}

FEDBUFF = Experiment(
    name="fedbuff",
    claim="sites of unequal speed: a buffer of five reaches the target in less time",
    run=run_clock,
    rounds=80,
    columns=(
        Column("time", f"time to {BUFFER_TARGET}", 1, rises=False),
        Column("rounds", "rounds to it", 1, rises=False),
        Column("accuracy", "accuracy of the last 10"),
    ),
    arms=(
        _clocked("rounds of ten", 1.0, cohort=_TEN),
        _clocked("the first ten of fifteen", 0.3, cohort={**_TEN, "over_select": 5}),
        _clocked("buffer, unscaled", 0.3, buffer={**_FIVE, "staleness_exponent": 0}),
        _clocked("buffer, scaled", 0.3, buffer={**_FIVE, "staleness_exponent": 0.5}),
    ),
)


def _coded(label: str, **codec: JsonValue) -> Arm:
    plan = {
        "training": {"epochs": 2, "batch_size": 32, "learning_rate": 0.1},
        "codec": codec,
    }
    return Arm(label, plan)


CODECS = Experiment(
    name="codecs",
    claim="smaller updates, the same accuracy; sparse ones learn later at first",
    run=run_codec,
    rounds=40,
    columns=(
        Column("accuracy", "accuracy of the last 5"),
        Column("early", "after 10 rounds"),
        Column("rounds", "rounds to 0.9", 1, rises=False),
        Column("kilobytes", "kB a round", 1, rises=False),
    ),
    arms=(
        _coded("exact", name="exact"),
        _coded("bf16", name="bf16"),
        _coded("fp16", name="fp16"),
        _coded("int8", name="int8"),
        _coded("int8 stochastic", name="int8", rounding="stochastic"),
        _coded("int4", name="int4"),
        _coded("int4 stochastic", name="int4", rounding="stochastic"),
        _coded("topk 0.05", name="topk"),
        _coded("topk 0.01", name="topk", fraction=0.01),
        _coded("sparse2 0.03125", name="sparse2"),
    ),
)
