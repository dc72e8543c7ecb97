"""Which faults hit which part at which moment: drawn from a seed, before anything runs.

The same seed and count give the same list, so a failure names all that is needed to try again.
What the machine makes of it (which site is mid-upload when the network goes) is its own affair.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

NETWORK = "network"  # the forwarder
STORE = "store"  # the folder of artifacts


class Kind(StrEnum):
    """What is done to a part."""

    KILL = "SIGKILL"  # of its first process; the others notice, or are left alone
    CHILD = "SIGKILL of a child"  # of one Postgres backend or one pool process
    FREEZE = "SIGSTOP"  # of all its processes
    STOP = "SIGTERM"  # politely; Postgres rolls back and ends
    QUIT = "SIGQUIT"  # Postgres: ends at once, recovers at its start
    FLUSH = "FLUSHALL"  # Valkey forgets everything
    CUT = "cut"  # every connection is reset
    HOLD = "hold"  # no byte passes
    REFUSE = "refuse"  # no connection stands
    AWAY = "away"  # the whole folder cannot be found
    UNWRITABLE = "unwritable"  # nothing new can be stored


INSTANT = frozenset({Kind.FLUSH, Kind.CUT, Kind.CHILD})  # over as soon as they are done

_PROCESS = (Kind.KILL, Kind.KILL, Kind.FREEZE, Kind.STOP)
_KINDS: Mapping[str, Sequence[Kind]] = {
    "postgres": (Kind.KILL, Kind.QUIT, Kind.FREEZE, Kind.STOP, Kind.CHILD),
    "valkey": (Kind.KILL, Kind.FREEZE, Kind.STOP, Kind.FLUSH, Kind.FLUSH),
    "hub": _PROCESS,
    "worker": (*_PROCESS, Kind.CHILD),
    "beat": _PROCESS,
    "site": _PROCESS,
    NETWORK: (Kind.CUT, Kind.CUT, Kind.HOLD, Kind.REFUSE),
    STORE: (Kind.AWAY, Kind.UNWRITABLE),
}
# Phases too short to be hit by chance.
# Those of a secure run alone, each with what comes about then in a plain one.
INSTEAD: Mapping[str, str] = {
    "roster.confirmed": "round.opened",
    "round.signing": "task.done",
    "round.opening": "round.aggregating",
}
EVENTS = (
    "round.opened",
    "task.claimed",
    "task.done",
    "round.aggregating",
    "round.completed",
    *INSTEAD,
)

_PAIRED = 0.2  # of faults: together with the one before
_ON_EVENT = 0.5  # of the others
_OFTEN_ON_EVENT = 0.8  # of those on parts that matter for an instant now and then
_LONG = 0.2  # of freezes: longer than every lease
_LONGEST_BETWEEN = 4.5  # seconds
_LONGEST_AFTER_EVENT = 0.25  # seconds
_AGGREGATING = "round.aggregating"
_AGGREGATING_SECONDS = 0.1  # it does not last longer when all is well
_STORE_SECONDS = (0.2, 3.0)  # an aggregation has ten tries


@dataclass(frozen=True, slots=True)
class Moment:
    """When a fault strikes, counted from the one before it."""

    seconds: float  # after the fault before, or after `event`
    event: str | None = None  # the next one of this kind


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault."""

    number: int  # from 1
    part: str
    kind: Kind
    moment: Moment
    seconds: float  # until it is over: the part is back


def draw_faults(
    seed: int, count: int, parts: Sequence[str], *, lease_seconds: float
) -> list[Fault]:
    """Draw `count` faults over `parts`, whose names begin with what they are ("site-2").

    Every kind of part is as likely as the others, however many of it there are.
    """
    rng = Random(seed)  # noqa: S311 -- to be repeated, not to be secret
    groups: dict[str, list[str]] = {}
    for part in (*parts, NETWORK, STORE):
        groups.setdefault(part.partition("-")[0], []).append(part)
    faults: list[Fault] = []
    for number in range(1, count + 1):
        group = rng.choice(list(groups))
        part = rng.choice(groups[group])
        kind = rng.choice(_KINDS[group])
        moment = _draw_moment(rng, group) if faults else Moment(rng.uniform(0.2, 2.0))
        seconds = _draw_seconds(rng, group, kind, lease_seconds)
        faults.append(Fault(number, part, kind, moment, seconds))
    return faults


def _draw_moment(rng: Random, group: str) -> Moment:
    if rng.random() < _PAIRED:
        return Moment(0.0)
    if rng.random() < (_OFTEN_ON_EVENT if group in {"worker", STORE} else _ON_EVENT):
        event = _AGGREGATING if group == "worker" else rng.choice(EVENTS)
        longest = _AGGREGATING_SECONDS if event == _AGGREGATING else _LONGEST_AFTER_EVENT
        return Moment(rng.uniform(0.0, longest), event)
    return Moment(rng.uniform(0.3, _LONGEST_BETWEEN))


def _draw_seconds(rng: Random, group: str, kind: Kind, lease_seconds: float) -> float:
    if kind in INSTANT:
        return 0.0
    if group == STORE:
        return rng.uniform(*_STORE_SECONDS)
    if kind is Kind.FREEZE and rng.random() < _LONG:
        return lease_seconds + rng.uniform(0.5, 3.0)
    return rng.uniform(0.1, 2.5)
