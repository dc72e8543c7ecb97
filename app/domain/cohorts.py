"""Who is admitted to a round, who is not and why, and what a run waits for. Pure.

Every draw derives from the plan's seed, the round's number and the sites' names, and from nothing
else: not from the order in which candidates are given, nor from the clock. Anybody can repeat it.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.domain.runs import NextRound, secure_of
from hansa_core.plans import CohortChoice, CohortPlan, HardwareFloor, RunPlan
from hansa_core.states import RoundKind, SiteState

WAITING_NAMES_SHOWN = 5
MINUTE, HOUR = 60, 3600  # seconds
GIB = 2**30  # bytes


@dataclass(frozen=True, slots=True)
class Machine:
    """What a site says of its machine."""

    cpus: int
    memory_bytes: int
    gpus: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A site of the federation that might be admitted to a round."""

    name: str
    labels: Mapping[str, str]
    last_seen_at: datetime | None
    state: SiteState = SiteState.ACTIVE
    machine: Machine | None = None
    examples: int | None = None  # of its last update in this run
    unwilling: str | None = None  # why it came into no roster of late


@dataclass(frozen=True, slots=True)
class Exclusion:
    """A site that is not asked, and why."""

    site: str
    reason: str
    drawn_against: bool = False  # eligible and online, but the draw took others


@dataclass(frozen=True, slots=True)
class Cohort:
    """Who is admitted, or why nobody is yet."""

    names: frozenset[str]
    waiting_for: str | None  # None: enough are here
    evaluators: frozenset[str] = frozenset()
    excluded: tuple[Exclusion, ...] = ()
    target: int | None = None  # answers that close the round; None: everybody's


@dataclass(frozen=True, slots=True)
class Sorted:
    """The candidates for a round, by what can be expected of them."""

    online: list[Candidate]  # eligible: they train, or evaluate their own data
    absent: list[Candidate]  # eligible, but not seen lately
    excluded: list[Exclusion]  # the absent too
    watching: frozenset[str]  # evaluators that are online
    evaluators: list[Candidate]  # active, online or not, in no order


def sort_out(
    plan: RunPlan, candidates: Sequence[Candidate], *, online_for: timedelta, now: datetime
) -> Sorted:
    """Tell who is eligible, who is here, and who is excluded and why."""
    central = set(plan.evaluation.evaluators)
    online, absent, excluded = _sort_out(
        plan.cohort, [c for c in candidates if c.name not in central], online_for, now
    )
    active = [c for c in candidates if c.name in central and c.state is SiteState.ACTIVE]
    watching = frozenset(c.name for c in active if is_online(c.last_seen_at, online_for, now))
    return Sorted(online, absent, excluded, watching, active)


def choose_cohort(
    plan: RunPlan,
    coming: NextRound,
    candidates: Sequence[Candidate],
    *,
    online_for: timedelta,
    now: datetime,
    failed_tries: int = 0,
) -> Cohort:
    """Admit sites to the coming round once enough of the eligible were seen within `online_for`.

    A round that is held again after a failure draws anew; after a pause it draws the same.
    """
    found = sort_out(plan, candidates, online_for=online_for, now=now)
    online, absent, watching = found.online, found.absent, found.watching
    excluded = [*found.excluded]
    if coming.kind is RoundKind.EVALUATE:
        asked = {site.name for site in online} if plan.evaluation.at_sites else set[str]()
        if secure_of(plan, coming.kind) is not None:
            if len(asked) >= coming.threshold:
                return Cohort(frozenset(asked), None, evaluators=watching, excluded=tuple(excluded))
            waiting = _waiting(len(asked), coming.threshold, absent, _pending(candidates), now)
            return Cohort(frozenset(), waiting)
        if asked or watching:
            return Cohort(frozenset(asked) | watching, None, excluded=tuple(excluded))
        away = [*absent, *found.evaluators] if plan.evaluation.at_sites else found.evaluators
        waiting = _waiting(0, coming.threshold, away, _pending(candidates), now)
        return Cohort(frozenset(), waiting)
    pinned = set(plan.cohort.pinned)
    missing = pinned - {site.name for site in online}
    if len(online) < coming.threshold or missing:
        short = len(online) < coming.threshold
        first = [site for site in absent if site.name in missing] or (absent if short else [])
        unknown = sorted(missing - {site.name for site in absent})
        waiting = _waiting(len(online), coming.threshold, first, _pending(candidates), now, unknown)
        return Cohort(frozenset(), waiting)
    places = len(online)
    if plan.cohort.size is not None:
        places = plan.cohort.size + plan.cohort.over_select
    taken = _draw(plan, coming.number, online, places, failed_tries)
    passed_over = f"not drawn: {len(taken)} of {len(online)} eligible sites were asked"
    excluded += [
        Exclusion(site.name, passed_over, drawn_against=True)
        for site in online
        if site.name not in taken
    ]
    return Cohort(
        names=frozenset(taken),
        waiting_for=None,
        evaluators=watching if coming.evaluate else frozenset(),
        excluded=tuple(sorted(excluded, key=lambda item: item.site)),
        target=plan.cohort.size,
    )


def always_left_out(rounds: Sequence[Set[str]]) -> set[str]:
    """Return the sites that every one of `rounds` left out."""
    return set[str]().union(*rounds[:1]).intersection(*rounds)


def is_online(last_seen_at: datetime | None, online_for: timedelta, now: datetime) -> bool:
    """Tell whether a site seen at `last_seen_at` counts as present."""
    return last_seen_at is not None and now - last_seen_at <= online_for


def last_seen(at: datetime | None, now: datetime) -> str:
    """Say when a site was last seen, for people."""
    if at is None:
        return "never seen"
    seconds = max(0, int((now - at).total_seconds()))
    if seconds < 2 * MINUTE:
        return f"last seen {seconds} s ago"
    if seconds < 2 * HOUR:
        return f"last seen {seconds // MINUTE} min ago"
    return f"last seen {seconds // HOUR} h ago"


def first_names(names: Sequence[str]) -> str:
    """Return the first few of `names`, and how many more there are."""
    more = len(names) - WAITING_NAMES_SHOWN
    shown = ", ".join(names[:WAITING_NAMES_SHOWN])
    return f"{shown} and {more} more" if more > 0 else shown


def _sort_out(
    plan: CohortPlan, candidates: Sequence[Candidate], online_for: timedelta, now: datetime
) -> tuple[list[Candidate], list[Candidate], list[Exclusion]]:
    """Return the eligible that are online, the eligible that are not, and who is excluded."""
    online: list[Candidate] = []
    absent: list[Candidate] = []
    excluded: list[Exclusion] = []
    for site in sorted(candidates, key=lambda candidate: candidate.name):
        unfit = _unfit(plan, site)
        if unfit is not None:
            excluded.append(Exclusion(site.name, unfit))
        elif is_online(site.last_seen_at, online_for, now):
            online.append(site)
        else:
            absent.append(site)
            excluded.append(Exclusion(site.name, f"offline: {last_seen(site.last_seen_at, now)}"))
    return online, absent, excluded


def _unfit(plan: CohortPlan, site: Candidate) -> str | None:
    """Return why a site is not eligible, however present it may be."""
    if site.state is SiteState.PENDING:
        return "waits for approval"
    if site.state is not SiteState.ACTIVE:
        return f"is {site.state}"
    if site.unwilling is not None:
        return f"is in no roster: {site.unwilling}"
    wrong = [
        f"{key} is {site.labels.get(key, 'not set')}, wanted {value}"
        for key, value in sorted(plan.labels.items())
        if site.labels.get(key) != value
    ]
    if plan.stratify_by is not None and plan.stratify_by not in site.labels:
        wrong.append(f"has no label {plan.stratify_by} to be stratified by")
    return "; ".join([*wrong, *_too_small(plan.hardware, site.machine)]) or None


def _too_small(floor: HardwareFloor, machine: Machine | None) -> list[str]:
    if floor == HardwareFloor():
        return []
    if machine is None:
        return ["reports no hardware"]
    facts = (
        ("CPUs", machine.cpus, floor.cpus),
        ("GiB of memory", machine.memory_bytes / GIB, floor.memory_gib),
        ("GPUs", machine.gpus, floor.gpus),
    )
    return [
        f"has {seen:g} {what}, wanted {wanted:g}" for what, seen, wanted in facts if seen < wanted
    ]


def _draw(
    plan: RunPlan, number: int, online: Sequence[Candidate], places: int, failed_tries: int
) -> set[str]:
    """Return the pinned sites and as many others as there are places, in the drawn order."""
    pinned = set(plan.cohort.pinned)
    free = [site for site in online if site.name not in pinned]
    luck = {site.name: _luck(plan.seed, number, failed_tries, site.name) for site in free}
    return pinned | set(_ordered(plan.cohort, number, free, luck)[: max(0, places - len(pinned))])


def _ordered(
    plan: CohortPlan, number: int, free: Sequence[Candidate], luck: Mapping[str, float]
) -> list[str]:
    def by_luck(sites: Sequence[Candidate]) -> list[str]:
        return sorted((site.name for site in sites), key=lambda name: (luck[name], name))

    match plan.choose:
        case CohortChoice.ALL | CohortChoice.RANDOM:
            return by_luck(free)
        case CohortChoice.WEIGHTED:
            key = _weighted_key(free, luck)
            return sorted((site.name for site in free), key=lambda name: (key(name), name))
        case CohortChoice.STRATIFIED:
            strata: dict[str, list[Candidate]] = {}
            for site in free:
                strata.setdefault(site.labels[plan.stratify_by or ""], []).append(site)
            ordered = [by_luck(strata[value]) for value in sorted(strata)]
            start = number % max(1, len(ordered))  # nobody's stratum is always served last
            return _take_turns(ordered[start:] + ordered[:start])


def _weighted_key(sites: Sequence[Candidate], luck: Mapping[str, float]) -> Callable[[str], float]:
    """Return the key by which the least come first in a draw weighted by examples.

    Efraimidis and Spirakis 2006, "Weighted random sampling with a reservoir", A-ES in logarithms.
    A site that has not answered yet weighs as much as the others' mean.
    """
    known = [site.examples for site in sites if site.examples]
    mean = sum(known) / len(known) if known else 1.0
    weights = {site.name: float(site.examples or mean) for site in sites}
    return lambda name: -math.log(luck[name]) / weights[name]


def _take_turns(queues: Sequence[Sequence[str]]) -> list[str]:
    longest = max((len(queue) for queue in queues), default=0)
    return [queue[turn] for turn in range(longest) for queue in queues if turn < len(queue)]


def _luck(seed: int, number: int, failed_tries: int, name: str) -> float:
    """Return a number in (0, 1), the same for everybody who computes it."""
    parts = ("hansa/cohort/v1", str(seed), str(number), str(failed_tries), name)
    digest = hashlib.sha256(b"".join(part.encode() + b"\0" for part in parts)).digest()
    return (int.from_bytes(digest[:6], "big") + 0.5) / 2**48


def _pending(candidates: Sequence[Candidate]) -> list[str]:
    return sorted(site.name for site in candidates if site.state is SiteState.PENDING)


def _waiting(
    online: int,
    threshold: int,
    absent: Sequence[Candidate],
    pending: Sequence[str],
    now: datetime,
    unknown: Sequence[str] = (),
) -> str:
    missing: list[str] = []
    if absent:
        seen = [f"{site.name} ({last_seen(site.last_seen_at, now)})" for site in absent]
        missing.append(first_names(seen))
    if pending:
        missing.append(f"the approval of {first_names(pending)}")
    if unknown:
        missing.append(f"the pinned {first_names(unknown)}")
    waits = " and for ".join(missing) or "more sites to enroll"
    return f"{online} of {threshold} sites online: waiting for {waits}"
