"""What an experiment is: arms that differ in a run's plan, run with several seeds and compared.

An arm's plan has the best of the values in its `grid`, found by `--tune` with seeds that the
comparison does not use; baselines are tuned over the same learning rates as what they are compared
with.

Invariants: one run depends on the experiment's name, the arm, the seed and the number of rounds.
"""

import itertools
import math
import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from benchmarks.federations.simulated import Federation
from hansa_core.plans import RunPlan, parse_plan

Sections = Mapping[str, Any]
Numbers = Mapping[str, float | None]
"""What a run gives, by column; None: a target that it did not reach."""

SMOOTHED = 5  # rounds whose mean accuracy has to reach a target


@dataclass(frozen=True, slots=True)
class Arm:
    """One way to do it."""

    label: str
    plan: Sections
    grid: Mapping[str, Sequence[Any]] = field(default_factory=dict[str, Sequence[Any]])
    options: Mapping[str, Any] = field(default_factory=dict[str, Any])  # beside the plan


@dataclass(frozen=True, slots=True)
class Column:
    """A number of every run."""

    key: str
    heading: str
    digits: int = 3  # after the point
    rises: bool = True  # more is better


Run = Callable[[Arm, int, int], Numbers]
"""(arm, seed, rounds) to what came out."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """Arms on one task; the first column is what settings are chosen by."""

    name: str
    claim: str
    run: Run
    rounds: int
    columns: tuple[Column, ...]
    arms: tuple[Arm, ...]
    quick_rounds: int = 3


@dataclass(frozen=True, slots=True)
class Row:
    """An arm with the numbers of all its seeds."""

    arm: Arm
    runs: tuple[Numbers, ...]


def plan_of(arm: Arm, seed: int, rounds: int) -> RunPlan:
    """Return the arm's plan, checked as a hub checks it."""
    sections = {"name": "experiment", "model": "digits", "seed": seed, "rounds": rounds}
    return parse_plan({**sections, **arm.plan})


def tried(arm: Arm) -> Iterator[tuple[Mapping[str, Any], Arm]]:
    """Yield every choice of the arm's grid by dotted path, with the arm that has it."""
    for values in itertools.product(*arm.grid.values()):
        choice = dict(zip(arm.grid, values, strict=True))
        plan = dict(arm.plan)
        for path, value in choice.items():
            section, _, key = path.partition(".")
            plan[section] = {**plan.get(section, {}), key: value}
        yield choice, replace(arm, plan=plan)


def chosen(arm: Arm) -> Mapping[str, Any]:
    """Return what the arm's plan has of its grid, by dotted path."""
    parts = {path: path.partition(".") for path in arm.grid}
    return {path: arm.plan[section][key] for path, (section, _, key) in parts.items()}


def rank(experiment: Experiment, runs: Sequence[Numbers]) -> tuple[float, ...]:
    """Return what sorts better runs first."""
    ranks: list[float] = []
    for column in experiment.columns:
        values = [run[column.key] for run in runs]
        reached = [value for value in values if value is not None]
        mean = statistics.fmean(reached) if reached else 0.0
        ranks += [len(values) - len(reached), -mean if column.rises else mean]
    return tuple(ranks)


def shown(column: Column, runs: Sequence[Numbers]) -> str:
    """Return a cell: mean and standard deviation over the seeds, or how many missed a target."""
    values = [run[column.key] for run in runs]
    reached = [value for value in values if value is not None]
    if not reached:
        return "never"
    text = f"{statistics.fmean(reached):.{column.digits}f}"
    if len(set(reached)) > 1:
        text += f" ± {statistics.stdev(reached):.{column.digits}f}"
    return text if len(reached) == len(values) else f"{text} ({len(reached)} of {len(values)})"


def rounds_to(target: float, curve: Sequence[float]) -> float | None:
    """Return the first round that ends SMOOTHED ones of this mean value; None if there is none.

    Before there are so many, those that there are count.
    """
    for end in range(1, len(curve) + 1):
        if statistics.fmean(curve[max(0, end - SMOOTHED) : end]) >= target:
            return float(end)
    return None


def last(curve: Sequence[float], rounds: int = 10) -> float:
    """Return the mean of the last values."""
    return statistics.fmean(curve[-rounds:])


def curve_of(federation: Federation, rounds: int, measure: Callable[[], float]) -> list[float]:
    """Hold rounds and return what is measured after each; training that diverges counts as 0."""
    curve: list[float] = []
    for _ in range(rounds):
        federation.round()
        value = measure()
        curve.append(value if math.isfinite(value) else 0.0)
    return curve
