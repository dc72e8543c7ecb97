"""Strategies against client drift and for faster rounds, on labels that few sites share.

Twenty sites, each with few digits (Dirichlet 0.1), of which a round asks five: what Hsu, Qi and
Brown 2019, Reddi et al. 2021, Karimireddy et al. 2020 and Acar et al. 2021 measure in kind.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

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
from benchmarks.federations.simulated import Federation, Site
from hansa.trainer import TrainingDivergedError

SITES, ASKED, ALPHA, HIDDEN = 20, 5, 0.1, 64
TARGET = 0.9
RATES = (0.03, 0.1, 0.3, 1.0)
TRAINING = {"epochs": 5, "batch_size": 32}
COHORT = {"min_sites": ASKED, "choose": "random", "size": ASKED}


def run(arm: Arm, seed: int, rounds: int) -> Numbers:
    """Return rounds to the target and the accuracy at last."""
    rng = np.random.default_rng(seed)
    train, test = held_out(all_digits(), rng)
    sites = [
        Site(f"site-{index:02}", DenseTrainer(part, test, HIDDEN))
        for index, part in enumerate(deal(train, SITES, ALPHA, rng))
    ]
    everyone = DenseTrainer(train, test, HIDDEN)
    federation = Federation(plan_of(arm, seed, rounds), sites)
    try:
        curve = curve_of(
            federation, rounds, lambda: federation.evaluate_for(everyone).metrics["accuracy"]
        )
    except TrainingDivergedError:
        return {"rounds": None, "accuracy": 0.0}
    return {"rounds": rounds_to(TARGET, curve), "accuracy": last(curve)}


def arm(name: str, rate: float, grid: Mapping[str, Any] | None = None, **settings: float) -> Arm:
    """Return a strategy with settings, tried over the learning rates and over `grid`."""
    return Arm(
        name,
        {
            "strategy": {"name": name, **settings},
            "training": {**TRAINING, "learning_rate": rate},
            "cohort": COHORT,
        },
        {"training.learning_rate": RATES, **(grid or {})},
    )


SKEWED = Experiment(
    name="skewed",
    claim="with few labels a site and five of twenty sites a round, fewer rounds than fedavg",
    run=run,
    rounds=60,
    columns=(
        Column("rounds", f"rounds to {TARGET}", 1, rises=False),
        Column("accuracy", "accuracy of the last 10"),
    ),
    arms=(
        arm("fedavg", 0.3),
        arm("fedavgm", 0.3, {"strategy.lr": (0.3, 1.0)}, lr=0.3),
        arm("fedadagrad", 0.3, {"strategy.lr": (0.03, 0.1)}, lr=0.1),
        arm("fedadam", 0.3, {"strategy.lr": (0.01, 0.03, 0.1)}, lr=0.1),
        arm("fedyogi", 0.3, {"strategy.lr": (0.01, 0.03, 0.1)}, lr=0.1),
        arm("fedprox", 0.3, {"strategy.mu": (0.01, 0.1, 1.0)}, mu=0.01),
        arm("scaffold", 0.3),
        arm("feddyn", 0.3, {"strategy.alpha": (0.03, 0.1, 0.3)}, alpha=0.03),
    ),
)
