"""How a run moves, and which round comes next. Pure.

draft -> queued -> running -> completed   (or failed, cancelled)
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.errors import IllegalTransitionError
from hansa_core.plans import CohortPlan, RunPlan
from hansa_core.states import RoundKind, RunState

_EXITS = {
    RunState.DRAFT: {RunState.QUEUED, RunState.CANCELLED},
    RunState.QUEUED: {RunState.RUNNING, RunState.CANCELLED},
    RunState.RUNNING: {RunState.COMPLETED, RunState.FAILED, RunState.CANCELLED},
    RunState.COMPLETED: set[RunState](),
    RunState.FAILED: set[RunState](),
    RunState.CANCELLED: set[RunState](),
}

ENDED = frozenset(state for state, exits in _EXITS.items() if not exits)
WAITING_NAMES_SHOWN = 5
MINUTE, HOUR = 60, 3600  # seconds


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


def next_round(plan: RunPlan, *, rounds_completed: int, evaluated: bool) -> NextRound | None:
    """Return what comes after `rounds_completed` training rounds, or None when all is done.

    `evaluated` says whether the final evaluation round has been closed.
    """
    if rounds_completed < plan.rounds:
        every = plan.evaluation.every
        return NextRound(
            number=rounds_completed + 1,
            kind=RoundKind.TRAIN,
            evaluate=every > 0 and rounds_completed % every == 0,
            threshold=plan.cohort.min_sites,
        )
    if plan.evaluation.final and not evaluated:
        return NextRound(
            number=plan.rounds + 1, kind=RoundKind.EVALUATE, evaluate=True, threshold=1
        )
    return None


@dataclass(frozen=True, slots=True)
class Candidate:
    """An active site that might be admitted to a round."""

    name: str
    labels: dict[str, str]
    last_seen_at: datetime | None


@dataclass(frozen=True, slots=True)
class Cohort:
    """Who is admitted, or why nobody is yet."""

    names: frozenset[str]
    waiting_for: str | None  # None: enough are here


def choose_cohort(
    plan: CohortPlan,
    candidates: Sequence[Candidate],
    *,
    threshold: int,
    online_for: timedelta,
    now: datetime,
    pending: Sequence[str] = (),
) -> Cohort:
    """Admit every matching site that was seen within `online_for`, once there are enough.

    `pending` names the sites that wait for approval: they are what a new federation waits for.
    """
    matching = [
        site
        for site in candidates
        if all(site.labels.get(key) == value for key, value in plan.labels.items())
    ]
    online = {site.name for site in matching if is_online(site.last_seen_at, online_for, now)}
    if len(online) >= threshold:
        return Cohort(frozenset(online), None)
    absent = sorted((site for site in matching if site.name not in online), key=lambda s: s.name)
    return Cohort(frozenset(), _waiting(len(online), threshold, absent, pending, now))


def is_online(last_seen_at: datetime | None, online_for: timedelta, now: datetime) -> bool:
    """Tell whether a site seen at `last_seen_at` counts as present."""
    return last_seen_at is not None and now - last_seen_at <= online_for


def _waiting(
    online: int,
    threshold: int,
    absent: Sequence[Candidate],
    pending: Sequence[str],
    now: datetime,
) -> str:
    missing: list[str] = []
    if absent:
        missing.append(_first([f"{site.name} ({_last_seen(site, now)})" for site in absent]))
    if pending:
        missing.append(f"the approval of {_first(pending)}")
    waits = " and for ".join(missing) or "more sites to enroll"
    return f"{online} of {threshold} sites online: waiting for {waits}"


def _first(names: Sequence[str]) -> str:
    more = len(names) - WAITING_NAMES_SHOWN
    shown = ", ".join(names[:WAITING_NAMES_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown


def _last_seen(site: Candidate, now: datetime) -> str:
    if site.last_seen_at is None:
        return "never seen"
    seconds = max(0, int((now - site.last_seen_at).total_seconds()))
    if seconds < 2 * MINUTE:
        return f"last seen {seconds} s ago"
    if seconds < 2 * HOUR:
        return f"last seen {seconds // MINUTE} min ago"
    return f"last seen {seconds // HOUR} h ago"
