"""Final accuracy with attackers among the sites, by rule: what each robust rule is worth.

    python -m benchmarks.attackers --quick
    python -m benchmarks.attackers --rules fedavg krum --seeds 3

Twenty sites train a network on scikit-learn's digits; 0, 4 or 6 of them attack in every round
(federations/attacks.py). Rules know how many at most; everything else is the same for all. `even`
deals digits alike, `skewed` by a Dirichlet distribution of 0.5. FLTrust has one site more, whose
100 images stand for clean data of the server's own. Bulyan needs 4f + 3 sites: not with 6 of 20.
The last line is one JSON object.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from benchmarks.federations.attacks import Attack, forge_of
from benchmarks.federations.dense import DenseTrainer
from benchmarks.federations.digits import all_digits, deal, held_out
from benchmarks.federations.pools import runs_in
from benchmarks.federations.simulated import Federation, Site
from benchmarks.rounds.machine import load_average, this_machine
from hansa.trainer import TrainingDivergedError
from hansa_core.plans import parse_plan

SITES, ROOT, ROOT_IMAGES = 20, "root", 100
COUNTS = (0, 4, 6)  # attackers
SPLITS = {"even": 100.0, "skewed": 0.5}  # alpha of the deal
TRAINING = {"epochs": 2, "batch_size": 32, "learning_rate": 0.3}
ROUNDS, QUICK_ROUNDS = 20, 4
SEEDS = 2
RADIUS = BOUND = 0.5  # honest deltas are 0.5 to 1 long, and 0.3 to 0.9 from their mean
LAST = 3  # rounds whose mean accuracy counts
RULES = (
    "fedavg",
    "median",
    "trimmed-mean",
    "krum",
    "multi-krum",
    "bulyan",
    "geometric-median",
    "centred-clipping",
    "norm-clipping",
    "fltrust",
)


@dataclass(frozen=True, slots=True)
class Case:
    """One run."""

    rule: str
    split: str
    attack: Attack | None
    attackers: int
    seed: int
    rounds: int


@dataclass(frozen=True, slots=True)
class Result:
    """A cell of the table."""

    rule: str
    split: str
    attack: str | None
    attackers: int
    accuracies: list[float]  # of the last rounds, by seed; 0 where training diverged


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and return the exit status."""
    parser = argparse.ArgumentParser(description="Measure the robust rules under attack.")
    parser.add_argument("--rules", nargs="+", choices=RULES, default=RULES)
    parser.add_argument("--quick", action="store_true", help="a few rounds of two attacks, even")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many to average over")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args(arguments)
    began, before = time.monotonic(), load_average()
    machine = this_machine()
    print(f"machine   {machine.cores} cores, {machine.cpu}, load {before:.1f} before")
    attacks = [Attack.SCALED, Attack.INNER_PRODUCT] if given.quick else list(Attack)
    rounds = QUICK_ROUNDS if given.quick else ROUNDS
    todo = cases(given.rules, 1 if given.quick else given.seeds, rounds, attacks)
    if given.quick:
        todo = [it for it in todo if it.split == "even" and it.attackers != COUNTS[-1]]
    results = results_of(todo, list(runs_in(given.processes, accuracy_of, todo)))
    print_results(results, attacks)
    seconds = round(time.monotonic() - began, 1)
    print(f"\n{seconds:.0f} s")
    summary = {
        "machine": asdict(machine),
        "load": [before, load_average()],
        "quick": given.quick,
        "rounds": rounds,
        "seconds": seconds,
        "results": [asdict(it) for it in results],
    }
    print(json.dumps(summary))
    return 0


def section_of(rule: str, byzantine: int) -> dict[str, Any]:
    """Return a rule's section for at most `byzantine` attackers of SITES."""
    settings: dict[str, dict[str, Any]] = {
        "trimmed-mean": {"trim": byzantine / SITES},
        "krum": {"byzantine": byzantine},
        "multi-krum": {"byzantine": byzantine, "keep": SITES - byzantine - 2},
        "bulyan": {"byzantine": byzantine},
        "centred-clipping": {"radius": RADIUS},
        "norm-clipping": {"bound": BOUND},
        "fltrust": {"root": ROOT},
    }
    return {"name": rule, **settings.get(rule, {})}


def cases(rules: Sequence[str], seeds: int, rounds: int, attacks: Sequence[Attack]) -> list[Case]:
    """Return all runs that make sense."""
    found: list[Case] = []
    for split in SPLITS:
        for rule in rules:
            for count in COUNTS:
                if rule == "bulyan" and 4 * count + 3 > SITES:
                    continue
                for attack in attacks if count else (None,):
                    found += [
                        Case(rule, split, attack, count, seed, rounds) for seed in range(seeds)
                    ]
    return found


def accuracy_of(case: Case) -> float:
    """Return the mean accuracy on held-out digits after the last rounds."""
    rng = np.random.default_rng(case.seed)
    train, test = held_out(all_digits(), rng)
    trusts = case.rule == "fltrust"
    root, rest = train, train
    if trusts:
        rest, root = held_out(train, rng, ROOT_IMAGES / len(train))
    parts = deal(rest, SITES, SPLITS[case.split], rng)
    sites = [
        Site(f"site-{index:02}", DenseTrainer(part, test, 64)) for index, part in enumerate(parts)
    ]
    attackers = {site.name for site in sites[: case.attackers]}
    if trusts:
        sites.append(Site(ROOT, DenseTrainer(root, test, 64)))
    plan = {
        "name": "attackers",
        "model": "digits",
        "seed": case.seed,
        "rounds": case.rounds,
        "training": TRAINING,
        "strategy": section_of(case.rule, case.attackers or COUNTS[1]),
        "cohort": {"min_sites": len(sites), "pinned": [ROOT] if trusts else []},
    }
    federation = Federation(parse_plan(plan), sites)
    forge = None if case.attack is None else forge_of(case.attack, attackers)
    curve: list[float] = []
    for _ in range(case.rounds):
        try:
            federation.round(forge=forge)
        except TrainingDivergedError:
            return 0.0
        curve.append(federation.evaluate(sites[0].name).metrics["accuracy"])
    return statistics.fmean(curve[-LAST:])


def results_of(cases: Sequence[Case], accuracies: Sequence[float]) -> list[Result]:
    """Return the cells of the table."""
    cells: dict[tuple[str, str, str | None, int], list[float]] = {}
    for case, accuracy in zip(cases, accuracies, strict=True):
        attack = None if case.attack is None else case.attack.value
        cells.setdefault((case.rule, case.split, attack, case.attackers), []).append(accuracy)
    return [Result(*key, values) for key, values in cells.items()]


def print_results(results: Sequence[Result], attacks: Sequence[Attack]) -> None:
    """Print a table for each split: a row for each rule."""
    cells = {(it.split, it.rule, it.attack, it.attackers): it.accuracies for it in results}
    columns: list[tuple[str | None, int]] = [(None, 0)]
    columns += [(attack.value, count) for count in COUNTS[1:] for attack in attacks]
    seen = {(it.attack, it.attackers) for it in results}
    columns = [column for column in columns if column in seen]
    for split in dict.fromkeys(it.split for it in results):
        names = "".join(f"{attack or 'none':>18}" for attack, _ in columns)
        print(f"\n{split:18}{names}")
        shares = "".join(f"{f'{count / SITES:.0%}':>18}" for _, count in columns)
        print(f"{'attackers':18}{shares}")
        for rule in dict.fromkeys(it.rule for it in results):
            found = [cells.get((split, rule, *column)) for column in columns]
            print(f"{rule:18}" + "".join(f"{_shown(it):>18}" for it in found))


def _shown(accuracies: Sequence[float] | None) -> str:
    return "-" if accuracies is None else f"{statistics.fmean(accuracies):.3f}"


if __name__ == "__main__":
    sys.exit(main())
