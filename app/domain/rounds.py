"""The round state machine: pure decisions over counted facts. No SQL, no clock, no I/O.

    train:     collecting -> aggregating -> completed   (or failed, cancelled)
    evaluate:  collecting ----------------> completed
    secure:    setup -> collecting -> signing -> opening -> aggregating -> completed

Any process may call `decide`, at any time and as often as it likes: the same facts give the
same answer. Holding the row locks while acting on it is the part of app/services/rounds.py.
"""

import hashlib
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from datetime import datetime

from app.domain.errors import IllegalTransitionError
from hansa_core.states import RoundKind, RoundState

MAX_TASK_ATTEMPTS = 20  # leases one site may lose in one round before it is given up
MAX_AGGREGATION_ATTEMPTS = 10  # leases workers may lose in one round

_EXITS = {
    RoundState.SETUP: {RoundState.COLLECTING, RoundState.FAILED, RoundState.CANCELLED},
    RoundState.COLLECTING: {
        RoundState.SIGNING,
        RoundState.AGGREGATING,
        RoundState.COMPLETED,
        RoundState.FAILED,
        RoundState.CANCELLED,
    },
    RoundState.SIGNING: {RoundState.OPENING, RoundState.FAILED, RoundState.CANCELLED},
    RoundState.OPENING: {RoundState.AGGREGATING, RoundState.FAILED, RoundState.CANCELLED},
    RoundState.AGGREGATING: {
        RoundState.OPENING,  # of the shares that came, some were wrong
        RoundState.COMPLETED,
        RoundState.FAILED,
        RoundState.CANCELLED,
    },
    RoundState.COMPLETED: set[RoundState](),
    RoundState.FAILED: set[RoundState](),
    RoundState.CANCELLED: set[RoundState](),
}


@dataclass(frozen=True, slots=True)
class RoundFacts:
    """What is counted of a round."""

    kind: RoundKind
    state: RoundState
    admitted: int  # sites in the cohort; a buffered round's grows
    answered: int  # answers that are stored and count here
    failed: int  # admitted sites that cannot answer any more
    threshold: int  # fewest answers that make the round
    deadline: datetime  # UTC
    target: int | None = None  # answers that close it at once; None: everybody's
    unfinished: int = 0  # buffered: tasks that sites still work on, of older rounds as well
    evaluating: int = 0  # evaluators beside a training round that have not answered
    buffered: bool = False
    secure: bool = False  # the answers are masked: a committee opens their sum


@dataclass(frozen=True, slots=True)
class Decision:
    """Where a round goes next, and why."""

    state: RoundState
    reason: str | None = None


def decide(facts: RoundFacts, *, now: datetime) -> Decision | None:
    """Return the round's next state, or None to leave it alone.

    Collecting ends when the target is reached or every admitted site has answered or failed, when
    the deadline has passed, or as soon as the threshold is out of reach. With fewer than
    `threshold` answers the round fails: k-of-n means k. Evaluators are waited for until the
    deadline, and are no part of k.
    """
    if facts.state is not RoundState.COLLECTING:
        return None  # terminal, or in the hands of the worker that holds the lease
    if facts.buffered:
        return _decide_buffered(facts, now=now)
    reachable = facts.admitted - facts.failed
    if reachable < facts.threshold:
        return Decision(
            RoundState.FAILED,
            f"{facts.failed} of {facts.admitted} sites failed, so {facts.threshold} answers "
            "cannot be reached",
        )
    wanted = reachable if facts.target is None else min(facts.target, reachable)
    if (facts.answered < wanted or facts.evaluating) and now < facts.deadline:
        return None
    if facts.answered < facts.threshold:
        return _too_few(facts)
    return Decision(_after_collecting(facts))


def _after_collecting(facts: RoundFacts) -> RoundState:
    if facts.secure:
        return RoundState.SIGNING
    if facts.kind is RoundKind.TRAIN:
        return RoundState.AGGREGATING
    return RoundState.COMPLETED


def _decide_buffered(facts: RoundFacts, *, now: datetime) -> Decision | None:
    """Close a buffer that is full, or that nobody will fill any more.

    The caller has asked every site that may be asked: with nothing unfinished, nothing comes.
    """
    assert facts.target is not None
    if facts.answered >= facts.target:
        return Decision(RoundState.AGGREGATING)
    exhausted = facts.unfinished == 0 and (facts.failed > 0 or facts.answered >= facts.threshold)
    if now < facts.deadline and not exhausted:
        return None
    if facts.answered >= facts.threshold:
        return Decision(RoundState.AGGREGATING)
    if now < facts.deadline:
        return Decision(
            RoundState.FAILED,
            f"every site failed or was given up; {facts.answered} updates came, "
            f"{facts.threshold} were needed",
        )
    return _too_few(facts)


def _too_few(facts: RoundFacts) -> Decision:
    return Decision(
        RoundState.FAILED,
        f"{facts.answered} of {facts.admitted} sites answered by the deadline, "
        f"{facts.threshold} were needed",
    )


def require_legal(current: RoundState, target: RoundState) -> None:
    """Raise IllegalTransitionError unless a round in `current` may enter `target`."""
    if target not in _EXITS[current]:
        raise IllegalTransitionError(f"a {current} round cannot become {target}")


def repeat_seed(seed: int, repeat: int) -> int:
    """Return the run's seed for a site's first task of a round, another for each later one.

    A site of a buffered run that trains twice from one checkpoint would else do the same again.
    """
    if repeat == 1:
        return seed
    digest = hashlib.sha256(f"hansa/repeat/v1\0{seed}\0{repeat}\0".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


@dataclass(frozen=True, slots=True)
class Reported:
    """A number that a site reported."""

    site: str | None
    metric: str
    value: float
    num_examples: int


def means_over_sites(
    reports: Iterable[Reported], evaluators: Set[str]
) -> dict[str, tuple[float, int]]:
    """Return each metric's mean over the sites of one round, with the examples it rests on.

    Evaluators with central data are no part of it, unless nobody else reported.
    """
    everybody = list(reports)
    at_sites = [report for report in everybody if report.site not in evaluators]
    return weighted_means((it.metric, it.value, it.num_examples) for it in at_sites or everybody)


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
