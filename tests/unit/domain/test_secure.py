"""Polls of a set-up, what a committee's answers lead to, and whom a roster serves."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from app.domain.secure import (
    Answer,
    Burnt,
    CommitteeFacts,
    DutyState,
    Next,
    Polled,
    RosterFacts,
    covers,
    decide_committee,
    decide_confirmations,
    decide_keys,
)

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LATER = NOW + timedelta(minutes=10)
SITES = [UUID(int=number) for number in range(1, 6)]
A, B, C, D, E = SITES
DONE, OPEN = Answer(DutyState.DONE), Answer(DutyState.OPEN)
NO = Answer(DutyState.REFUSED, "a stranger")
GONE = Answer(DutyState.CLOSED, "the site was revoked")


def answers(*given: Answer) -> dict[UUID, Answer]:
    return dict(zip(SITES, given, strict=False))


def keys(given: Mapping[UUID, Answer], *, now: datetime = NOW, needed: int = 3) -> Polled | None:
    return decide_keys(given, set(given), needed=needed, expires_at=LATER, now=now)


def confirmed(
    given: Mapping[UUID, Answer], *, now: datetime = NOW, needed: int = 3
) -> Polled | None:
    return decide_confirmations(given, set(given), needed=needed, expires_at=LATER, now=now)


def test_keys_are_waited_for_until_all_came() -> None:
    assert keys(answers(DONE, DONE, DONE, OPEN)) is None
    polled = keys(answers(DONE, DONE, DONE, DONE))
    assert polled == Polled(Next.ASSEMBLE, frozenset(SITES[:4]), {})


def test_who_made_no_keys_in_time_is_left_out() -> None:
    polled = keys(answers(DONE, DONE, DONE, OPEN), now=LATER)
    assert polled is not None
    assert polled.next is Next.ASSEMBLE
    assert polled.staying == {A, B, C}
    assert polled.lost == {D: "made no keys in time"}


def test_a_refusal_and_a_revoked_site_are_not_waited_for() -> None:
    polled = keys(answers(DONE, DONE, DONE, NO, GONE))
    assert polled is not None
    assert polled.next is Next.ASSEMBLE
    assert polled.lost == {D: "refused: a stranger", E: "the site was revoked"}


def test_a_set_up_is_given_up_as_soon_as_too_few_can_be_left() -> None:
    polled = keys(answers(NO, DONE, OPEN, OPEN), needed=4)
    assert polled is not None
    assert polled.next is Next.GIVE_UP


def test_only_the_cohort_counts_for_what_is_needed() -> None:
    given = answers(DONE, DONE, NO, DONE, DONE)
    polled = decide_keys(given, {A, B, C}, needed=3, expires_at=LATER, now=NOW)
    assert polled is not None
    assert polled.next is Next.GIVE_UP
    again = decide_keys(given, {A, B, D, E}, needed=3, expires_at=LATER, now=NOW)
    assert again is not None
    assert again.next is Next.ASSEMBLE


def test_a_roster_enters_into_force_only_when_all_have_confirmed() -> None:
    assert confirmed(answers(DONE, DONE, DONE, OPEN)) is None
    polled = confirmed(answers(DONE, DONE, DONE, DONE))
    assert polled == Polled(Next.ENTER, frozenset(SITES[:4]), {})


@pytest.mark.parametrize(("last", "now"), [(NO, NOW), (GONE, NOW), (OPEN, LATER)])
def test_one_member_that_is_lost_takes_the_version_with_it(last: Answer, now: datetime) -> None:
    polled = confirmed(answers(DONE, DONE, DONE, last), now=now)
    assert polled is not None
    assert polled.next is Next.AGAIN
    assert polled.staying == {A, B, C}
    assert set(polled.lost) == {D}


def test_who_has_still_to_confirm_goes_on_when_another_refuses() -> None:
    polled = confirmed(answers(DONE, OPEN, DONE, NO))
    assert polled is not None
    assert polled.staying == {A, B, C}


COMMITTEE = CommitteeFacts(wanted=3, done=0, open=4, refusals={}, expires_at=LATER)


def test_a_committee_is_waited_for_until_enough_have_answered() -> None:
    assert decide_committee(replace(COMMITTEE, done=2, open=2), "signatures", now=NOW) is False
    assert decide_committee(replace(COMMITTEE, done=3, open=1), "signatures", now=LATER) is True


def test_a_round_is_burnt_once_its_quorum_is_out_of_reach() -> None:
    facts = replace(COMMITTEE, done=1, open=1, refusals={"oslo": "two sets", "turku": "a liar"})
    burnt = decide_committee(facts, "signatures", now=NOW)
    assert isinstance(burnt, Burnt)
    assert burnt.reason == (
        "3 signatures of the committee cannot be reached: 1 came and 1 may still come "
        "(oslo: two sets; turku: a liar)"
    )


def test_a_round_is_burnt_when_its_committee_was_too_slow() -> None:
    facts = replace(COMMITTEE, done=2, open=2)
    burnt = decide_committee(facts, "openings", now=LATER)
    assert burnt == Burnt("2 openings of the committee came in time, 3 were needed")


MEMBERS = {site: site.bytes for site in SITES[:4]}
ROSTER = RosterFacts(keys=MEMBERS, committee=SITES[:4], quorum=3, rounds=2)


def serves(
    roster: RosterFacts = ROSTER,
    *,
    cohort: set[UUID] | None = None,
    keys: Mapping[UUID, bytes] = MEMBERS,
    present: set[UUID] | None = None,
    revoked: set[UUID] | None = None,
) -> bool:
    return covers(
        roster,
        {A, B, C} if cohort is None else cohort,
        keys=keys,
        present=set(SITES) if present is None else present,
        revoked=revoked or set(),
        most_rounds=3,
    )


def test_a_roster_serves_a_cohort_of_its_members() -> None:
    assert serves()
    assert serves(cohort={A, B, C, D})


def test_a_roster_serves_no_cohort_with_a_stranger() -> None:
    assert not serves(cohort={A, B, E}, keys={**MEMBERS, E: E.bytes})


def test_a_roster_serves_no_cohort_with_a_rotated_key() -> None:
    assert not serves(keys={**MEMBERS, C: b"another"})
    assert serves(keys={**MEMBERS, D: b"another"})  # of nobody who is asked


def test_a_roster_is_over_with_its_rounds_or_a_revoked_member() -> None:
    assert not serves(replace(ROSTER, rounds=3))
    assert not serves(revoked={D})


def test_a_roster_serves_nobody_while_its_committee_could_not_sign() -> None:
    assert not serves(present={A, B})
    assert not serves(present={A, B, C}, keys={**MEMBERS, D: b"another"}, cohort={A, B, D})
    assert serves(present={A, B, C})
