"""The round state machine: pure decisions over counted facts. No SQL, no clock, no I/O.

    train:     collecting -> aggregating -> completed   (or failed, cancelled)
    evaluate:  collecting ----------------> completed

Any process may call `decide`, at any time and as often as it likes: the same facts give the
same answer. Holding the row locks while acting on it is the part of app/services/rounds.py.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from app.domain.errors import IllegalTransitionError
from hansa_core.states import RoundKind, RoundState

MAX_TASK_ATTEMPTS = 20  # leases one site may lose in one round before it is given up
MAX_AGGREGATION_ATTEMPTS = 10  # leases workers may lose in one round

_EXITS = {
    RoundState.COLLECTING: {
        RoundState.AGGREGATING,
        RoundState.COMPLETED,
        RoundState.FAILED,
        RoundState.CANCELLED,
    },
    RoundState.AGGREGATING: {RoundState.COMPLETED, RoundState.FAILED, RoundState.CANCELLED},
    RoundState.COMPLETED: set[RoundState](),
    RoundState.FAILED: set[RoundState](),
    RoundState.CANCELLED: set[RoundState](),
}


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """What is counted of a round."""

    kind: RoundKind
    state: RoundState
    admitted: int  # sites in the cohort; fixed when the round opened
    answered: int  # of those, sites whose answer is stored
    failed: int  # of those, sites that cannot answer any more
    threshold: int  # fewest answers that make the round
    deadline: datetime  # UTC


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a round goes next, and why."""

    state: RoundState
    reason: str | None = None


def decide(facts: RoundFacts, *, now: datetime) -> Decision | None:
    """Return the round's next state, or None to leave it alone.

    Collecting ends when every admitted site has answered or failed, when the deadline has
    passed, or as soon as the threshold is out of reach. With fewer than `threshold` answers the
    round fails: k-of-n means k.
    """
    if facts.state is not RoundState.COLLECTING:
        return None  # terminal, or in the hands of the worker that holds the lease
    reachable = facts.admitted - facts.failed
    if reachable < facts.threshold:
        return Decision(
            RoundState.FAILED,
            f"{facts.failed} of {facts.admitted} sites failed, so {facts.threshold} answers "
            "cannot be reached",
        )
    if facts.answered < reachable and now < facts.deadline:
        return None
    if facts.answered < facts.threshold:
        return Decision(
            RoundState.FAILED,
            f"{facts.answered} of {facts.admitted} sites answered by the deadline, "
            f"{facts.threshold} were needed",
        )
    match facts.kind:
        case RoundKind.TRAIN:
            return Decision(RoundState.AGGREGATING)
        case RoundKind.EVALUATE:
            return Decision(RoundState.COMPLETED)


def require_legal(current: RoundState, target: RoundState) -> None:
    """Raise IllegalTransitionError unless a round in `current` may enter `target`."""
    if target not in _EXITS[current]:
        raise IllegalTransitionError(f"a {current} round cannot become {target}")


def weighted_means(
    points: Iterable[tuple[str, float, int]],
) -> dict[str, tuple[float, int]]:
    """Return each metric's mean over (name, value, num_examples), with the examples it rests on.

    A metric that some sites do not report is averaged over those that do. The points are summed
    in a fixed order, so the same reports give the same bits. A mean lies between the least and
    the greatest value, so finite reports, however large, have a finite mean.
    """
    reports: dict[str, list[tuple[float, int]]] = {}
    for name, value, num_examples in sorted(points):
        reports.setdefault(name, []).append((value, num_examples))
    return {name: _weighted_mean(ascending) for name, ascending in reports.items()}


def _weighted_mean(ascending: Sequence[tuple[float, int]]) -> tuple[float, int]:
    """Return the mean of (value, num_examples) and the examples it rests on."""
    total = sum(num_examples for _, num_examples in ascending)
    mean = sum(value * (num_examples / total) for value, num_examples in ascending)
    return min(max(mean, ascending[0][0]), ascending[-1][0]), total
