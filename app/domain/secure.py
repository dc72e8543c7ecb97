"""The states of rosters and duties, and the pure decisions of a secure round's phases.

A roster is set up in two polls: all eligible sites are asked for keys, then those that made some
for their word that they take part. A committee is polled twice as well: it signs which updates the
sum is of, then opens it. Any process may decide at any time: the same facts give the same answer.
"""

from collections.abc import Collection, Mapping, Set
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from uuid import UUID


class RosterState(StrEnum):
    """How far a roster is."""

    GATHERING = "gathering"  # sites make keys
    CONFIRMING = "confirming"  # its members check it and sign it
    IN_FORCE = "in-force"  # all members have
    ENDED = "ended"  # another one took its place, or it never came into force


class DutyState(StrEnum):
    """How far a duty is."""

    OPEN = "open"
    DONE = "done"
    REFUSED = "refused"  # by the site's own checks
    CLOSED = "closed"  # nobody waits for it any more


@dataclass(frozen=True, slots=True)
class Answer:
    """How far one site is with its duty."""

    state: DutyState
    reason: str | None = None  # why it refused, or nobody waits for it


class Next(StrEnum):
    """What becomes of a roster after a poll."""

    ASSEMBLE = "assemble"  # the keys make a roster: ask its members to confirm it
    ENTER = "enter"  # everybody confirmed: it is in force
    AGAIN = "again"  # another version, without those that are lost
    GIVE_UP = "give-up"  # too few sites are left


@dataclass(frozen=True, slots=True)
class Polled:
    """What a poll led to."""

    next: Next
    staying: frozenset[UUID]  # sites that go on
    lost: Mapping[UUID, str]  # those that do not, and why


def decide_keys(
    answers: Mapping[UUID, Answer],
    cohort: Set[UUID],
    *,
    needed: int,
    expires_at: datetime,
    now: datetime,
) -> Polled | None:
    """Return what becomes of a poll for keys, or None to wait.

    `answers` are of every site that was asked, `cohort` those of them whose updates the round
    wants: `needed` of these have to be left.
    """
    lost = _lost(answers, overdue=now >= expires_at, what="made no keys in time")
    staying = frozenset(answers) - frozenset(lost)
    if len(staying & cohort) < needed:
        return Polled(Next.GIVE_UP, staying, lost)
    if any(answers[site].state is DutyState.OPEN for site in staying):
        return None
    return Polled(Next.ASSEMBLE, staying, lost)


def decide_confirmations(
    answers: Mapping[UUID, Answer],
    cohort: Set[UUID],
    *,
    needed: int,
    expires_at: datetime,
    now: datetime,
) -> Polled | None:
    """Return what becomes of a roster that its members look at, or None to wait.

    One member that is lost takes the version with it: the others' keys are bound to its digest.
    """
    lost = _lost(answers, overdue=now >= expires_at, what="did not confirm the roster in time")
    staying = frozenset(answers) - frozenset(lost)
    if len(staying & cohort) < needed:
        return Polled(Next.GIVE_UP, staying, lost)
    if lost:
        return Polled(Next.AGAIN, staying, lost)
    if any(answer.state is DutyState.OPEN for answer in answers.values()):
        return None
    return Polled(Next.ENTER, staying, lost)


@dataclass(frozen=True, slots=True)
class CommitteeFacts:
    """How far a committee is with its duties of one kind."""

    wanted: int  # answers that are enough
    done: int
    open: int  # that may still come
    refusals: Mapping[str, str]  # site name to its reason, of those that never come
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Burnt:
    """A round that cannot go on, and why."""

    reason: str


def decide_committee(facts: CommitteeFacts, what: str, *, now: datetime) -> bool | Burnt:
    """Tell whether enough have answered, or why they never will; False: wait.

    `what` they owe, in the plural, for people.
    """
    if facts.done >= facts.wanted:
        return True
    because = "; ".join(f"{name}: {why}" for name, why in sorted(facts.refusals.items()))
    told = f" ({because})" if because else ""
    if facts.done + facts.open < facts.wanted:
        return Burnt(
            f"{facts.wanted} {what} of the committee cannot be reached: {facts.done} came and "
            f"{facts.open} may still come{told}"
        )
    if now >= facts.expires_at:
        return Burnt(
            f"{facts.done} {what} of the committee came in time, {facts.wanted} were needed{told}"
        )
    return False


@dataclass(frozen=True, slots=True)
class RosterFacts:
    """A roster in force, and how its members stand now."""

    keys: Mapping[UUID, bytes]  # each member's identity key, as the roster has it
    committee: Collection[UUID]
    quorum: int
    rounds: int  # that it has served


def covers(
    roster: RosterFacts,
    cohort: Set[UUID],
    *,
    keys: Mapping[UUID, bytes],
    present: Set[UUID],
    revoked: Set[UUID],
    most_rounds: int,
) -> bool:
    """Tell whether a roster serves a round of this cohort.

    It does not once a member of the cohort is not in it or has another key in force, a member was
    revoked, it has served its rounds, or too few of its committee are `present` to sign a sum.
    """
    if roster.rounds >= most_rounds or revoked & set(roster.keys):
        return False
    if any(roster.keys.get(site) != keys.get(site) for site in cohort):
        return False
    able = [
        site for site in roster.committee if site in present and keys.get(site) == roster.keys[site]
    ]
    return len(able) >= roster.quorum


def _lost(answers: Mapping[UUID, Answer], *, overdue: bool, what: str) -> dict[UUID, str]:
    lost: dict[UUID, str] = {}
    for site, answer in answers.items():
        match answer.state:
            case DutyState.REFUSED:
                lost[site] = f"refused: {answer.reason or 'gave no reason'}"
            case DutyState.CLOSED:
                lost[site] = answer.reason or "is not waited for any more"
            case DutyState.OPEN if overdue:
                lost[site] = what
            case DutyState.OPEN | DutyState.DONE:
                pass
    return lost
