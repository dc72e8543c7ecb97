"""What the papers of the strategies claim, in kind, on scikit-learn's digits.

    python -m benchmarks.strategies --quick
    python -m benchmarks.strategies --only skewed fedbn
    python -m benchmarks.strategies --tune --only skewed    # how settings were chosen

Real training, real plans, and rounds by the hub's own kernel, without a hub: federations/ has the
experiments. Numbers are means and standard deviations over the seeds. `--tune` runs every value of
each arm's grid with a seed of its own and prints them best first. The last line is one JSON object.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.federations.experiments import (
    Arm,
    Experiment,
    Numbers,
    Row,
    chosen,
    rank,
    shown,
    tried,
)
from benchmarks.federations.local_work import FAIRNESS, STRAGGLERS, UNEQUAL
from benchmarks.federations.pace import CODECS, FEDBUFF, OUTER
from benchmarks.federations.personal import FEDBN, FEDPER, GROUPS
from benchmarks.federations.pools import runs_in
from benchmarks.federations.skewed import SKEWED
from benchmarks.rounds.machine import load_average, this_machine

EXPERIMENTS = (
    SKEWED,
    UNEQUAL,
    STRAGGLERS,
    FAIRNESS,
    FEDBN,
    FEDPER,
    GROUPS,
    OUTER,
    FEDBUFF,
    CODECS,
)
SEEDS = 3
TUNING_SEED = 100

Work = tuple[str, Arm, int, int]
"""(experiment, arm, seed, rounds)"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run, print, and return the exit status."""
    names = [experiment.name for experiment in EXPERIMENTS]
    parser = argparse.ArgumentParser(description="Measure the strategies against fedavg.")
    parser.add_argument("--only", nargs="+", choices=names, default=names, metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="a few rounds of one seed: no results")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="how many to average over")
    parser.add_argument("--tune", action="store_true", help="run each arm's grid instead")
    parser.add_argument("--processes", type=int, default=2)
    given = parser.parse_args(arguments)
    began, before = time.monotonic(), load_average()
    machine = this_machine()
    print(f"machine   {machine.cores} cores, {machine.cpu}, load {before:.1f} before\n")
    experiments = [it for it in EXPERIMENTS if it.name in given.only]
    if given.tune:
        tune(experiments, given.processes)
        return 0
    seeds = range(1 if given.quick else given.seeds)
    found: list[dict[str, Any]] = []
    for experiment, rounds, rows in compare(experiments, seeds, given.processes, quick=given.quick):
        print_rows(experiment, rounds, rows)
        found.append(
            {
                "name": experiment.name,
                "claim": experiment.claim,
                "rounds": rounds,
                "arms": [
                    {"label": row.arm.label, "plan": row.arm.plan, "runs": row.runs} for row in rows
                ],
            }
        )
    seconds = round(time.monotonic() - began, 1)
    print(f"{seconds:.0f} s")
    summary = {
        "machine": asdict(machine),
        "load": [before, load_average()],
        "seeds": list(seeds),
        "quick": given.quick,
        "seconds": seconds,
        "experiments": found,
    }
    print(json.dumps(summary))
    return 0


def compare(
    experiments: Sequence[Experiment], seeds: Sequence[int], processes: int, *, quick: bool
) -> Iterator[tuple[Experiment, int, list[Row]]]:
    """Yield every experiment with its rounds and what its arms gave."""
    rounds = {it.name: it.quick_rounds if quick else it.rounds for it in experiments}
    jobs: list[Work] = [
        (it.name, arm, seed, rounds[it.name])
        for it in experiments
        for arm in it.arms
        for seed in seeds
    ]
    results = runs_in(processes, run_one, jobs)
    for experiment in experiments:
        rows = [Row(arm, tuple(next(results) for _ in seeds)) for arm in experiment.arms]
        yield experiment, rounds[experiment.name], rows


def tune(experiments: Sequence[Experiment], processes: int) -> None:
    """Print every choice of every arm's grid, best first."""
    choices = [(it, arm, *choice) for it in experiments for arm in it.arms for choice in tried(arm)]
    jobs: list[Work] = [(it.name, arm, TUNING_SEED, it.rounds) for it, _, _, arm in choices]
    numbers = list(runs_in(processes, run_one, jobs))
    for experiment in experiments:
        print(experiment.name)
        for arm in experiment.arms:
            runs = [
                (choice, run)
                for (_, other, choice, _), run in zip(choices, numbers, strict=True)
                if other is arm
            ]
            runs.sort(key=lambda pair: rank(experiment, [pair[1]]))
            for choice, run in runs:
                print(f"  {_line(experiment, arm.label, choice, [run])}", flush=True)


def print_rows(experiment: Experiment, rounds: int, rows: Sequence[Row]) -> None:
    """Print one experiment's table."""
    print(f"{experiment.name}: {experiment.claim} ({rounds} rounds)")
    headings = "".join(f"{column.heading:>27}" for column in experiment.columns)
    print(f"  {'':28}{'':58}{headings}")
    for row in rows:
        print(f"  {_line(experiment, row.arm.label, chosen(row.arm), row.runs)}")
    print(flush=True)


def run_one(work: Work) -> Numbers:
    """Do one run."""
    name, arm, seed, rounds = work
    (experiment,) = [it for it in EXPERIMENTS if it.name == name]
    return experiment.run(arm, seed, rounds)


def _line(
    experiment: Experiment, label: str, settings: Mapping[str, Any], runs: Sequence[Numbers]
) -> str:
    told = ", ".join(f"{path.partition('.')[2]} {value}" for path, value in settings.items())
    cells = "".join(f"{shown(column, runs):>27}" for column in experiment.columns)
    return f"{label:28}{told:58}{cells}"


if __name__ == "__main__":
    sys.exit(main())
