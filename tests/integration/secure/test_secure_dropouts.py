"""Secure rounds whose sites go away, refuse or lie, before and after their upload."""

import pytest

from hansa_core import wire
from hansa_core.secagg.messages import Header
from hansa_core.signing import encode_base64
from hansa_core.states import RoundState, RunState, TaskState
from hansa_core.wire import DutyKind
from tests.factories import (
    Federation,
)
from tests.secure_sites import (
    SecureSite,
    agree,
    ended_well,
    open_up,
    overdue,
    started,
    step,
    upload,
    whole_round,
)
from tests.tensors import a_delta


def test_a_site_that_uploads_nothing_is_dropped_and_returns_without_new_keys(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation, rounds=2)
    agree(run_id, sites)
    late = sites[3].site.claim()
    for site in sites[:3]:
        upload(site)
    overdue(federation)
    step(run_id)
    answer = sites[3].work(late, a_delta(3))
    assert answer.status_code == 409  # its own seed is never opened
    open_up(run_id, sites[:3])
    first = federation.round(run_id, 1)
    assert first.state is RoundState.COMPLETED
    assert {task.site_name: task.state for task in first.tasks}["turku"] is TaskState.LATE
    whole_round(run_id, sites, lambda site, task: site.work(task, a_delta(9)))
    run = federation.run(run_id)
    assert (run.state, run.rounds_completed) == (RunState.COMPLETED, 2), run.state_reason
    second = federation.round(run_id, 2).secure
    assert second is not None
    assert (second.roster_version, second.survivors) == (1, 4)


def test_too_few_uploads_burn_the_round_and_the_next_one_has_a_header_of_its_own(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation, cohort={"min_sites": 3, "retries": 1})
    agree(run_id, sites)
    headers: list[Header] = []
    for site in sites[:2]:
        task = site.site.claim()
        assert task.secure is not None
        headers.append(task.secure.header)
        upload(site)
    overdue(federation)
    step(run_id)
    again = federation.round(run_id, 1)
    assert (again.retry, again.state) == (1, RoundState.COLLECTING)
    for site in sites:
        task = site.site.claim()
        assert task.secure is not None
        headers.append(task.secure.header)
        upload(site)
    assert len({header.digest() for header in headers}) == 2
    open_up(run_id, sites)
    ended_well(federation, run_id, 4)


def test_members_that_do_not_sign_or_open_are_not_missed_while_there_is_a_quorum(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    agree(run_id, sites)
    for site in sites:
        upload(site)
    step(run_id)
    assert sites[3].duties().expected
    for site in sites[:3]:  # three of four sign
        assert site.do([DutyKind.SIGN]) == 1
    step(run_id)
    for site in sites[1:]:  # three of four open, another of them away
        assert site.do([DutyKind.OPEN]) == 1
    step(run_id)
    ended_well(federation, run_id, 4)
    assert sites[0].duties() == wire.Duties(items=[], expected=False)


@pytest.mark.parametrize("phase", [DutyKind.SIGN, DutyKind.OPEN])
@pytest.mark.parametrize("refused", [False, True])
def test_a_round_whose_committee_stays_away_or_refuses_is_burnt(
    phase: DutyKind, *, refused: bool, federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    agree(run_id, sites)
    for site in sites:
        upload(site)
    step(run_id)
    if phase is DutyKind.OPEN:
        for site in sites:
            site.do()
        step(run_id)
    sites[0].do()
    if refused:
        for site in sites[1:]:
            (duty,) = site.duties().items
            assert site.refuse(duty.id, "two sets").status_code == 204
    else:
        overdue(federation)
    step(run_id)
    run = federation.run(run_id)
    assert run.state is RunState.FAILED
    what = "signatures" if phase is DutyKind.SIGN else "openings"
    assert f"{what} of the committee" in str(run.state_reason)
    assert ("espoo: two sets" in str(run.state_reason)) is refused
    assert all(site.duties().items == [] for site in sites)


def test_a_site_that_was_sent_another_round_is_left_out_of_the_sum(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    agree(run_id, sites)
    for site in sites[:3]:
        upload(site)
    task = sites[3].site.claim()
    assert task.secure is not None
    other = task.secure.header.model_copy(update={"checkpoint": "0" * 64})
    claims = {"secure_round": task.secure.header.digest()}
    answer = sites[3].work(task, a_delta(3), header=other, claims=claims)
    assert answer.status_code == 201
    open_up(run_id, sites)
    ended_well(federation, run_id, 3)
    last = federation.round(run_id, 1).tasks[-1]
    assert (last.site_name, last.state) == ("turku", TaskState.FAILED)
    assert "another model or round" in str(last.state_reason)


def test_wrong_shares_are_found_and_more_of_the_committee_asked(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    agree(run_id, sites)
    for site in sites:
        upload(site)
    step(run_id)
    for site in sites:
        site.do([DutyKind.SIGN])
    step(run_id)
    (duty,) = sites[0].duties().items
    honest = sites[0].answer(duty)
    message = honest["message"]
    shares = len(message["shares"]) * 3 // 4
    wrong = {**message, "shares": encode_base64(b"\0" * shares)}
    lie = sites[0].signed_json(DutyKind.OPEN, wrong)
    assert sites[0].put(duty.id, lie).status_code == 201
    for site in sites[1:3]:
        site.do([DutyKind.OPEN])
    step(run_id)
    assert federation.round(run_id, 1).state is RoundState.OPENING
    assert sites[3].do([DutyKind.OPEN]) == 1
    step(run_id)
    ended_well(federation, run_id, 4)
