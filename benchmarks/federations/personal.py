"""Tensors that stay at a site, and tensors that only some sites share.

- Li et al. 2021, FedBN: sites whose scanners differ keep their batch normalization.
- Arivazhagan et al. 2019, FedPer: sites whose labels differ keep their last layer.
- Groups: sites of two scanners have an input layer for each; its mean is over those that hold it.
"""

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from benchmarks.federations.digits import (
    SHIFTS,
    all_digits,
    deal,
    held_out,
    turned,
    upright,
)
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
from benchmarks.federations.models import (
    adapted_by,
    network,
    normalised_network,
    trainer_of,
)
from benchmarks.federations.simulated import Federation, Site

RATES = (0.03, 0.1, 0.3, 1.0)
SCANNERS = ("upright", "turned")


def run_scanners(arm: Arm, seed: int, rounds: int) -> Numbers:
    """Eight sites, four ways of scanning: see FedBN."""
    rng = np.random.default_rng(seed)
    sites: list[Site] = []
    for index, part in enumerate(deal(all_digits(), 8, 100, rng)):
        train, test = held_out(part.seen_by(SHIFTS[index % len(SHIFTS)]), rng, 0.4)
        sites.append(Site(f"site-{index}", trainer_of(normalised_network, train, test)))
    return _numbers(arm, seed, rounds, sites)


def run_labels(arm: Arm, seed: int, rounds: int) -> Numbers:
    """Ten sites of few digits each, which they are tested on: see FedPer."""
    rng = np.random.default_rng(seed)
    sites: list[Site] = []
    for index, part in enumerate(deal(all_digits(), 10, 0.1, rng, fewest=30)):
        train, test = held_out(part, rng, 0.4)
        sites.append(Site(f"site-{index}", trainer_of(network, train, test)))
    return _numbers(arm, seed, rounds, sites)


def run_groups(arm: Arm, seed: int, rounds: int) -> Numbers:
    """Eight sites of which two turn their digits; each kind has an input layer if `adapters`."""
    rng = np.random.default_rng(seed)
    sites: list[Site] = []
    for index, part in enumerate(deal(all_digits(), 8, 100, rng)):
        scanner = SCANNERS[index % 4 == 0]
        seen = part.seen_by(turned if scanner == "turned" else upright)
        train, test = held_out(seen, rng, 0.4)
        build = adapted_by(scanner if arm.options["adapters"] else SCANNERS[0], SCANNERS)
        trainer = trainer_of(build, train, test)
        sites.append(Site(f"site-{index}", trainer, {"scanner": scanner}))
    return _numbers(arm, seed, rounds, sites)


def _numbers(arm: Arm, seed: int, rounds: int, sites: Sequence[Site]) -> Numbers:
    federation = Federation(plan_of(arm, seed, rounds), sites)

    def mean() -> float:
        return statistics.fmean(
            federation.evaluate(site.name).metrics["accuracy"] for site in sites
        )

    curve = curve_of(federation, rounds, mean)
    found = [federation.evaluate(site.name).metrics["accuracy"] for site in sites]
    return {
        "accuracy": last(curve, 5),
        "worst": min(found),
        "rounds": rounds_to(0.9, curve),
        "kilobytes": federation.bytes_sent / federation.updates / 1e3,
    }


def _arm(label: str, rate: float, tensors: Mapping[str, Any] | None = None, **options: bool) -> Arm:
    plan = {
        "training": {"epochs": 2, "batch_size": 32, "learning_rate": rate},
        "tensors": tensors or {},
    }
    return Arm(label, plan, {"training.learning_rate": RATES}, options)


_COLUMNS = (
    Column("accuracy", "mean local accuracy"),
    Column("worst", "worst site"),
    Column("kilobytes", "kB an update", 1, rises=False),
)

FEDBN = Experiment(
    name="fedbn",
    claim="four kinds of scanner at eight sites: personal batch normalization does better",
    run=run_scanners,
    rounds=15,
    columns=_COLUMNS,
    arms=(
        _arm("fedavg", 0.3),
        _arm("personal batch norm", 0.03, {"personal": ["body.1.*", "body.4.*"]}),
    ),
)

FEDPER = Experiment(
    name="fedper",
    claim="sites see few digits, their own: a personal last layer does better",
    run=run_labels,
    rounds=15,
    columns=_COLUMNS,
    arms=(_arm("fedavg", 0.3), _arm("personal head", 0.3, {"personal": ["head.*"]})),
)

_HOLDERS = {
    "groups": [
        {"name": it, "tensors": [f"adapters.{it}.*"], "labels": {"scanner": it}} for it in SCANNERS
    ]
}

GROUPS = Experiment(
    name="groups",
    claim="an input layer for each of two scanners: averaged over its holders it learns faster",
    run=run_groups,
    rounds=25,
    columns=(Column("rounds", "rounds to 0.9", 1, rises=False), *_COLUMNS),
    arms=(
        _arm("one input layer for all", 0.3, adapters=False),
        _arm("two, mean over all sites", 0.3, adapters=True),
        _arm("two, as tensor groups", 0.3, _HOLDERS, adapters=True),
    ),
)
