"""What a plan is allowed to say and probably does not mean. Pure.

Every sentence is true of the plan, the sites that are there now and the times of past rounds; none
is a guess about the data or the model.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from app.domain.cohorts import first_names
from hansa_core.plans import RunPlan
from hansa_core.secagg.parameters import least_survivors

FEW_IN_A_SUM = 5  # updates under which a sum deserves a word
_SIZES = (("GB", 10**9), ("MB", 10**6), ("kB", 10**3))


@dataclass(frozen=True, slots=True)
class Outlook:
    """What is known of a run before it begins."""

    plan: RunPlan
    trainers: int  # asked in the first round, or awaited for it
    threshold: int  # fewest answers that make a round
    evaluators_away: Sequence[str]  # named by the plan, and active, but not online
    evaluators_unknown: Sequence[str]  # named by the plan, and no active site
    runs_at_work: int  # others of the federation, queued or running
    seconds_per_round: float | None
    bytes_per_round: int  # as a budget counts; 0: not known
    secure_problem: str | None = None  # why sums of so many sites cannot be


def cautions(outlook: Outlook) -> list[str]:
    """Return what to think about before the run is started, the gravest first."""
    found: list[str] = []
    if outlook.secure_problem is not None:
        found.append(f"secure rounds of so many sites cannot be: {outlook.secure_problem}")
    if outlook.plan.rounds:
        found += [*_of_answers(outlook), *_of_times(outlook), *_of_bytes(outlook)]
    found += [*_of_evaluations(outlook)]
    if outlook.runs_at_work:
        others = _count(outlook.runs_at_work, "other run is", "other runs are")
        found.append(
            f"{others} queued or running in this federation: a site works on one task at a time, "
            "so rounds may take longer"
        )
    return found


def _of_answers(outlook: Outlook) -> Iterator[str]:
    plan, sites = outlook.plan, outlook.trainers
    fewest = outlook.threshold
    if plan.secure is not None and sites >= fewest:
        fewest = max(fewest, least_survivors(sites, plan.secure.min_survivors))
    if plan.buffer is None and sites == fewest:
        again = "the run fails with it"
        if plan.cohort.retries:
            again = f"it is held again at most {_count(plan.cohort.retries, 'time', 'times')}"
        which = "the one site" if sites == 1 else f"all {sites} sites"
        yield (
            f"a round needs the answers of {which}: if a site fails or is late the round "
            f"fails, and {again}"
        )
    if plan.secure is not None and fewest < FEW_IN_A_SUM:
        yield (
            f"a sum may be of {fewest} updates only: {fewest - 1} of these sites together can "
            "tell the update of the last from it; more sites, or a higher "
            "secure.min_survivors, hide each better"
        )


def _of_times(outlook: Outlook) -> Iterator[str]:
    plan, seconds = outlook.plan, outlook.seconds_per_round
    if seconds is None:
        return
    limit = plan.deadlines.round_seconds
    if limit is not None and limit < seconds:
        yield (
            f"deadlines.round_seconds is {limit:g}, and rounds of this model took {seconds:.3g} s: "
            "a round may close before its sites have answered"
        )
    budget = plan.budget.seconds
    if budget is not None and budget < seconds * plan.rounds:
        enough = max(1, math.floor(budget / seconds))
        yield (
            f"budget.seconds is {budget:g}: at {seconds:.3g} s a round that is enough for about "
            f"{enough} of {plan.rounds} rounds"
        )


def _of_bytes(outlook: Outlook) -> Iterator[str]:
    plan, each = outlook.plan, outlook.bytes_per_round
    budget = plan.budget.bytes
    if budget is None or each == 0:
        return
    begun = math.ceil(budget / each)  # a round begins as long as the budget is not spent
    if begun < plan.rounds:
        yield (
            f"budget.bytes is {say_bytes(budget)}: at {say_bytes(each)} a round it is spent after "
            f"about {begun} of {plan.rounds} rounds"
        )


def _of_evaluations(outlook: Outlook) -> Iterator[str]:
    plan = outlook.plan
    every, stops = plan.evaluation.every, plan.early_stopping
    if not every and not plan.evaluation.final:
        yield (
            "nobody evaluates: with evaluation.every 0 and evaluation.final false the run has "
            "metrics of local training alone"
        )
    if outlook.evaluators_unknown:
        yield (
            f"evaluation.evaluators names {first_names(outlook.evaluators_unknown)}, which is no "
            "active site of this federation: nobody evaluates in its stead"
        )
    if outlook.evaluators_away:
        yield (
            f"evaluation.evaluators names {first_names(outlook.evaluators_away)}, which is not "
            "online: it evaluates in those rounds alone at whose opening it is"
        )
    if stops is not None and plan.rounds:
        apart = every if stops.source == "eval" else 1
        needed = stops.patience * apart + 1  # rounds closed when it can stop the run at first
        if needed >= plan.rounds:
            yield (
                f"early_stopping.patience {stops.patience} cannot be spent before round {needed} "
                f"of {plan.rounds}: it never ends the run early"
            )


def say_bytes(size: int) -> str:
    """Return a number of bytes for people, in decimal units."""
    for unit, factor in _SIZES:
        if size >= factor:
            return f"{size / factor:.3g} {unit}"
    return f"{size} bytes"


def _count(number: int, one: str, more: str) -> str:
    return f"{number} {one if number == 1 else more}"
