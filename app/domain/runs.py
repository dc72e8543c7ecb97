r"""How a run moves, and which round comes next. Pure.

draft -> queued -> running -> completed   (or failed, cancelled)
             \       |  ^
              `---> paused

A paused run is queued again by whoever resumes it; with nothing left to do it is then completed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.errors import IllegalTransitionError
from hansa_core.plans import BudgetPlan, BufferPlan, EarlyStopping, RunPlan
from hansa_core.secagg.plans import LEAST_SITES, SecurePlan
from hansa_core.states import RoundKind, RunState

_EXITS = {
    RunState.DRAFT: {RunState.QUEUED, RunState.CANCELLED},
    RunState.QUEUED: {
        RunState.RUNNING,
        RunState.PAUSED,
        RunState.COMPLETED,  # resumed with nothing left to do
        RunState.CANCELLED,
    },
    RunState.RUNNING: {
        RunState.PAUSED,
        RunState.COMPLETED,
        RunState.FAILED,
        RunState.CANCELLED,
    },
    RunState.PAUSED: {RunState.QUEUED, RunState.RUNNING, RunState.CANCELLED},
    RunState.COMPLETED: set[RunState](),
    RunState.FAILED: set[RunState](),
    RunState.CANCELLED: set[RunState](),
}

ENDED = frozenset(state for state, exits in _EXITS.items() if not exits)


def require_legal(current: RunState, target: RunState) -> None:
    """Raise IllegalTransitionError unless a run in `current` may enter `target`."""
    if target not in _EXITS[current]:
        wanted = " or ".join(sorted(_EXITS[current])) or "nothing: it is over"
        raise IllegalTransitionError(f"a {current} run cannot become {target}, only {wanted}")


@dataclass(frozen=True, slots=True)
class NextRound:
    """The round that a run needs next."""

    number: int  # from 1
    kind: RoundKind
    evaluate: bool  # evaluate the base checkpoint before training on it
    threshold: int  # fewest answers that make it


def buffer_of(plan: RunPlan, kind: RoundKind) -> BufferPlan | None:
    """Return how rounds of this kind are filled asynchronously; None: they have a fixed cohort."""
    return plan.buffer if kind is RoundKind.TRAIN else None


def secure_of(plan: RunPlan, kind: RoundKind) -> SecurePlan | None:
    """Return how rounds of this kind are summed securely; None: they are not.

    An evaluation at the evaluators alone has nobody's numbers to hide.
    """
    if kind is RoundKind.EVALUATE and not plan.evaluation.at_sites:
        return None
    return plan.secure


def next_round(
    plan: RunPlan, *, rounds_completed: int, evaluated: bool, stopped: bool = False
) -> NextRound | None:
    """Return what comes after `rounds_completed` training rounds, or None when all is done.

    `evaluated` says whether the final evaluation round has been closed, `stopped` that training
    ends early.
    """
    if rounds_completed < plan.rounds and not stopped:
        every = plan.evaluation.every
        return NextRound(
            number=rounds_completed + 1,
            kind=RoundKind.TRAIN,
            evaluate=every > 0 and rounds_completed % every == 0,
            threshold=_least(plan, RoundKind.TRAIN, plan.cohort.min_sites),
        )
    if plan.evaluation.final and not evaluated:
        return NextRound(
            number=rounds_completed + 1,
            kind=RoundKind.EVALUATE,
            evaluate=True,
            threshold=_least(plan, RoundKind.EVALUATE, 1),
        )
    return None


def _least(plan: RunPlan, kind: RoundKind, wanted: int) -> int:
    """Return the fewest answers that make a round: a sum of few would tell too much."""
    secure = secure_of(plan, kind)
    if secure is None:
        return wanted
    return max(wanted, LEAST_SITES, secure.min_survivors or 0)


def spent_budget(plan: BudgetPlan, *, seconds: float, moved: int) -> str | None:
    """Return which budget is spent, or None. `seconds` active and bytes `moved` so far."""
    if plan.seconds is not None and seconds >= plan.seconds:
        return f"the time budget of {plan.seconds:g} s is spent"
    if plan.bytes is not None and moved >= plan.bytes:
        return f"the budget of {plan.bytes} bytes is spent: {moved} were moved"
    return None


def stagnation(plan: EarlyStopping, series: Sequence[tuple[int, float]]) -> str | None:
    """Return why training stops early, or None to go on.

    `series` is (round number, value) of the metric, ascending. A value counts as a gain when it
    is better than the best before it by more than `min_delta`; `patience` measurements without
    one end the training (Prechelt 1998, "Early Stopping - But When?").
    """
    sign = 1.0 if plan.mode == "max" else -1.0
    best: tuple[int, float] | None = None
    without = 0
    for number, value in series:
        if best is None or sign * (value - best[1]) > plan.min_delta:
            best, without = (number, value), 0
        else:
            without += 1
    if best is None or without < plan.patience:
        return None
    return (
        f"{plan.source} {plan.metric} has not improved on the {best[1]:.6g} of checkpoint "
        f"{best[0]} in {without} measurements"
    )
