"""Strategies for sites that do unequal work, or that the model serves unequally.

- Wang et al. 2020, FedNova: with unequal numbers of local steps fedavg ends at the minimum of
  another objective. Softmax regression, whose minimum is one; what is left of the loss above it.
- Li et al. 2020, FedProx: nine of ten sites do only part of the work each round; dropping them
  wastes it, and a proximal term steadies what is left.
- Li et al. 2020, q-FedAvg: a model too small for all sites serves some badly; with q above 0, what
  sites get varies less.
"""

import statistics
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import numpy as np
from pydantic import JsonValue

from benchmarks.federations.dense import DenseTrainer, gradients_of
from benchmarks.federations.digits import (
    Images,
    all_digits,
    deal,
    held_out,
    mirrored,
    turned,
    upright,
)
from benchmarks.federations.experiments import (
    Arm,
    Column,
    Experiment,
    Numbers,
    last,
    plan_of,
    rounds_to,
)
from benchmarks.federations.simulated import Federation, Site
from hansa.pytorch import TorchConfig
from hansa.trainer import TrainContext, TrainingDivergedError

RATES = (0.03, 0.1, 0.3)
MINORITIES = (turned, mirrored)
DECAY = 1e-2  # of softmax regression's weights: so that there is a minimum


def run_unequal(arm: Arm, seed: int, rounds: int) -> Numbers:
    """Return how far the loss of all data stays above its minimum, and the distance to it."""
    rng = np.random.default_rng(seed)
    train, _ = held_out(all_digits(), rng)
    parts = deal(train, 10, 0.1, rng)
    sites = [Site(f"site-{index}", DenseTrainer(part, part, 0)) for index, part in enumerate(parts)]
    epochs = {site.name: int(count) for site, count in zip(sites, [1, 20] * 5, strict=True)}

    def changes(site: str, round_number: int) -> Mapping[str, JsonValue]:
        del round_number
        return {"epochs": epochs[site]}

    federation = Federation(plan_of(arm, seed, rounds), sites, changes)
    best = _least_loss(seed)
    for _ in range(rounds):
        federation.round()
    return {"excess": _penalised(federation.base.tensors, train) - best}


def run_stragglers(arm: Arm, seed: int, rounds: int) -> Numbers:
    """Return rounds to the target and accuracy, where nine of ten sites do part of the work."""
    rng = np.random.default_rng(seed)
    train, test = held_out(all_digits(), rng)
    sites = [
        Site(f"site-{index:02}", DenseTrainer(part, test, 64))
        for index, part in enumerate(deal(train, 20, 0.1, rng))
    ]
    plan = plan_of(arm, seed, rounds)
    full = int(str(plan.training["epochs"]))
    done: dict[str, int] = {}  # epochs, in the round at hand

    def changes(site: str, round_number: int) -> Mapping[str, JsonValue]:
        del round_number
        return {"epochs": done.get(site, full)}

    federation = Federation(plan, sites, changes)
    everyone = DenseTrainer(train, test, 64)
    curve: list[float] = []
    for _ in range(rounds):
        order: list[int] = rng.permutation(len(sites)).tolist()
        cohort = [sites[index].name for index in order[:10]]
        done = dict.fromkeys(cohort[:1], full)
        done |= {name: int(rng.integers(1, full)) for name in cohort[1:]}
        try:
            federation.round(cohort[:1] if arm.options["drop"] else cohort)
        except TrainingDivergedError:
            return {"rounds": None, "accuracy": 0.0}
        curve.append(federation.evaluate_for(everyone).metrics["accuracy"])
    return {"rounds": rounds_to(0.85, curve), "accuracy": last(curve)}


def run_fairness(arm: Arm, seed: int, rounds: int) -> Numbers:
    """Return the mean, the spread and the least of the sites' own accuracies."""
    rng = np.random.default_rng(seed)
    parts = deal(all_digits(), 10, 100, rng)
    sites: list[Site] = []
    for index, part in enumerate(parts):
        shift = MINORITIES[index] if index < len(MINORITIES) else upright
        train, test = held_out(part.seen_by(shift), rng, 0.4)
        sites.append(Site(f"site-{index}", DenseTrainer(train, test, 0)))
    federation = Federation(plan_of(arm, seed, rounds), sites)
    try:
        for _ in range(rounds):
            federation.round()
    except TrainingDivergedError:
        return {"deviation": 1.0, "worst": 0.0, "mean": 0.0}
    found = [federation.evaluate(site.name).metrics["accuracy"] for site in sites]
    return {
        "deviation": statistics.pstdev(found),
        "worst": min(found),
        "mean": statistics.fmean(found),
    }


def _penalised(tensors: Mapping[str, Any], train: Images) -> float:
    """Return the objective: the loss of all data, with the decay that local training has."""
    trainer = DenseTrainer(train, train, 0)
    loss = trainer.evaluate(tensors, TrainContext(TorchConfig(), 0)).metrics["loss"]
    squares = sum(float((array.astype("f8") ** 2).sum()) for array in tensors.values())
    return loss + DECAY / 2 * squares


@lru_cache
def _least_loss(seed: int) -> float:
    """Return the minimum of the objective of `run_unequal`: 500 accelerated gradient steps."""
    train, _ = held_out(all_digits(), np.random.default_rng(seed))
    here = DenseTrainer(train, train, 0).initial_tensors(TorchConfig(), 0)
    ahead, rate = dict(here), 0.5
    for step in range(500):
        _, gradients = gradients_of(ahead, train)
        new = {
            name: ahead[name] - np.float32(rate) * (gradient + np.float32(DECAY) * ahead[name])
            for name, gradient in gradients.items()
        }
        pace = np.float32(step / (step + 3))
        ahead = {name: new[name] + pace * (new[name] - here[name]) for name in new}
        here = new
    return _penalised(here, train)


def _plan(strategy: Mapping[str, Any], rate: float, **training: JsonValue) -> Mapping[str, Any]:
    return {"strategy": strategy, "training": {"learning_rate": rate, **training}}


def _unequal(name: str, rate: float) -> Arm:
    plan = _plan({"name": name}, rate, batch_size=100_000, weight_decay=DECAY)
    return Arm(name, plan, {"training.learning_rate": (0.05, 0.1, 0.2)})


UNEQUAL = Experiment(
    name="unequal-work",
    claim="half the sites do 1 local epoch, half 20: fedavg ends at another objective's minimum",
    run=run_unequal,
    rounds=100,
    columns=(Column("excess", "loss above the minimum", 4, rises=False),),
    arms=(_unequal("fedavg", 0.2), _unequal("fednova", 0.1)),
)


def _straggling(
    label: str, strategy: Mapping[str, Any], rate: float, *, drop: bool = False, mu: bool = False
) -> Arm:
    grid: dict[str, Any] = {"training.learning_rate": RATES}
    if mu:
        grid["strategy.mu"] = (0.01, 0.1, 1.0)
    plan = {
        **_plan(strategy, rate, batch_size=32, epochs=20),
        "cohort": {"min_sites": 1},
    }
    return Arm(label, plan, grid, {"drop": drop})


STRAGGLERS = Experiment(
    name="stragglers",
    claim="nine of ten sites do part of 20 epochs: taking partial work beats dropping it",
    run=run_stragglers,
    rounds=30,
    columns=(
        Column("rounds", "rounds to 0.85", 1, rises=False),
        Column("accuracy", "accuracy of the last 10"),
    ),
    arms=(
        _straggling("fedavg, stragglers dropped", {"name": "fedavg"}, 0.1, drop=True),
        _straggling("fedavg, partial work", {"name": "fedavg"}, 0.3),
        _straggling("fedprox, partial work", {"name": "fedprox", "mu": 0.01}, 0.3, mu=True),
    ),
)


def _fair(size: str, rate: float, q: float | None = None) -> Arm:
    """Return an arm; L is 1 over the learning rate, as the paper takes it."""
    fair = {"name": "qfedavg", "q": q, "lipschitz": 1 / rate}
    plan = _plan({"name": "fedavg"} if q is None else fair, rate, batch_size=32, epochs=1)
    name = "fedavg" if q is None else f"qfedavg, q {q:g}"
    return Arm(f"{name}, {size} steps", plan, {"training.learning_rate": (rate,)})


FAIRNESS = Experiment(
    name="fairness",
    claim="two of ten sites see digits turned or mirrored, by one linear model: q evens them out",
    run=run_fairness,
    rounds=100,
    columns=(
        Column("deviation", "deviation between sites", rises=False),
        Column("worst", "worst site"),
        Column("mean", "mean of sites"),
    ),
    arms=(
        *(_fair("small", 0.3, q) for q in (None, 1.0, 5.0)),
        *(_fair("best", 1.0, q) for q in (None, 1.0, 5.0)),
    ),
)
