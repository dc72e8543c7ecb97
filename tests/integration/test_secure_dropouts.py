"""Secure rounds whose sites go away, refuse, lie or are stopped, in every phase."""

from collections.abc import Callable, Generator
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from app.services import openings
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.secagg.messages import Header
from hansa_core.signing import Purpose, encode_base64
from hansa_core.states import RoundState, RunState, TaskState
from hansa_core.wire import DutyKind
from tests.factories import (
    Federation,
    a_federation,
    a_model,
    a_run,
    change_state,
)
from tests.identities import SiteIdentity, events_of
from tests.secure_sites import (
    SECURE,
    SecureSite,
    agree,
    open_up,
    secure_sites,
    step,
    whole_round,
)
from tests.tensors import BASE, a_delta
from tests.workers import worker_of

NAMES = ("bergen", "espoo", "oslo", "turku")


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    made = a_federation(client, transactions, settings)
    a_model(made)
    return made


@pytest.fixture
def sites(federation: Federation) -> list[SecureSite]:
    return secure_sites(federation, dict(BASE), *NAMES)


@pytest.fixture(autouse=True)
def worker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    with worker_of(settings, monkeypatch):
        yield


def started(federation: Federation, **plan: Any) -> UUID:
    wanted = {
        "cohort": {"min_sites": 3},
        "deadlines": {"round_seconds": 600},
        "secure": dict(SECURE),
        **plan,
    }
    run = a_run(federation, **wanted)
    step(run.id)
    return run.id


def overdue(federation: Federation) -> None:
    """Let the time of every poll, and of every round, be over."""
    with federation.transactions.begin("overdue") as tx:
        for table, column in (
            ("rosters", "expires_at"),
            ("secure_rounds", "expires_at"),
            ("rounds", "deadline_at"),
        ):
            tx.session.execute(text(f"UPDATE {table} SET {column} = now()"))  # noqa: S608


def upload(site: SecureSite) -> None:
    answer = site.work(site.site.claim(), a_delta(NAMES.index(site.name)))
    assert answer.status_code == 201, answer.text


def ended_well(federation: Federation, run_id: UUID, survivors: int, version: int = 1) -> None:
    run = federation.run(run_id)
    assert (run.state, run.rounds_completed) == (RunState.COMPLETED, 1), run.state_reason
    shown = federation.round(run_id, 1).secure
    assert shown is not None
    assert (shown.survivors, shown.roster_version) == (survivors, version)
    assert shown.waiting_for == []


def test_a_site_that_makes_no_keys_is_left_out(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    for site in sites[:3]:
        assert site.do() == 1
    step(run_id)
    assert sites[0].duties().items == []  # the fourth is waited for
    overdue(federation)
    step(run_id)
    for site in sites[:3]:
        assert site.do() == 1
    step(run_id)
    assert sites[3].site.poll().status_code == 204
    excluded = {it.site: it.reason for it in federation.round(run_id, 1).excluded}
    assert excluded == {"turku": "made no keys in time"}
    for site in sites[:3]:
        upload(site)
    open_up(run_id, sites[:3])
    ended_well(federation, run_id, 3)


def test_a_site_that_does_not_confirm_makes_the_others_begin_again(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    for site in sites:
        assert site.do() == 1
    step(run_id)
    for site in sites[:3]:
        assert site.do() == 1
    overdue(federation)
    step(run_id)
    agree(run_id, sites[:3])
    assert [duty.kind for duty in sites[3].duties().items] == []
    for site in sites[:3]:
        upload(site)
    open_up(run_id, sites[:3])
    ended_well(federation, run_id, 3, version=2)


def test_a_site_that_refuses_the_roster_is_told_of_and_left_out(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    for site in sites:
        site.do()
    step(run_id)
    (duty,) = sites[3].duties().items
    for _ in range(2):  # again changes nothing
        assert sites[3].refuse(duty.id, "oslo is a stranger\0").status_code == 204
    step(run_id)
    agree(run_id, sites[:3])
    (alert,) = [it for it in federation.get("/alerts")["items"] if it["kind"] == "secure-refused"]
    assert "turku refuses to confirm the roster" in alert["message"]
    kinds = [kind for kind, _ in events_of(federation.transactions, federation.id)]
    assert kinds.count("duty.refused") == 1
    excluded = {it.site: it.reason for it in federation.round(run_id, 1).excluded}
    assert excluded == {"turku": "refused: oslo is a stranger\N{REPLACEMENT CHARACTER}"}


def test_a_site_that_came_into_no_roster_is_asked_again_some_rounds_later(
    federation: Federation, sites: list[SecureSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each round would begin with a set-up that this site fails."""
    monkeypatch.setattr(openings, "ASKED_AGAIN", 2)
    run_id = started(federation, rounds=4)
    (duty,) = sites[3].duties().items
    sites[3].refuse(duty.id, "not today")
    agree(run_id, sites[:3])
    for site in sites[:3]:
        upload(site)
    open_up(run_id, sites[:3])
    second = federation.round(run_id, 2)
    assert second.state is RoundState.COLLECTING  # without a set-up
    excluded = {it.site: it.reason for it in second.excluded}
    assert excluded == {"turku": "is in no roster: not today"}
    for site in sites[:3]:
        upload(site)
    open_up(run_id, sites[:3])
    assert federation.round(run_id, 3).state is RoundState.SETUP
    assert [duty.kind for duty in sites[3].duties().items] == [DutyKind.KEYS]


@pytest.mark.parametrize("phase", [DutyKind.KEYS, DutyKind.CONFIRM])
def test_a_set_up_with_too_few_sites_fails_as_a_short_round_does(
    phase: DutyKind, federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation, cohort={"min_sites": 4})
    if phase is DutyKind.CONFIRM:
        for site in sites:
            site.do()
        step(run_id)
    (duty,) = sites[3].duties().items
    assert duty.kind == phase
    sites[3].refuse(duty.id, "no")
    step(run_id)
    run = federation.run(run_id)
    assert run.state is RunState.FAILED
    assert "too few sites agreed on a roster, 4 were needed (turku: refused: no)" in str(
        run.state_reason
    )
    assert sites[0].duties() == wire.Duties(items=[], expected=False)


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


def test_answers_are_taken_once(federation: Federation, sites: list[SecureSite]) -> None:
    run_id = started(federation)
    (duty,) = sites[0].duties().items
    assert sites[0].duties().items == [duty]
    assert sites[0].do() == 1
    again = sites[0].put(duty.id, sites[0].said[duty.id])
    assert again.status_code == 200
    other = sites[0].put(duty.id, sites[0].answer(duty))  # other keys
    assert (other.status_code, other.json()["slug"]) == (409, "update-conflict")
    assert sites[0].refuse(duty.id, "too late").status_code == 409
    assert sites[1].put(duty.id, sites[0].said[duty.id]).status_code == 404
    (mine,) = sites[1].duties().items
    stolen = sites[1].put(mine.id, sites[0].said[duty.id])
    assert (stolen.status_code, stolen.json()["slug"]) == (422, "invalid-request")
    forged = sites[1].answer(mine)
    forged["signature"] = sites[0].said[duty.id]["signature"]
    refused = sites[1].put(mine.id, forged)
    assert (refused.status_code, refused.json()["slug"]) == (403, "signature-refused")
    assert run_id


def test_a_masked_update_tells_nothing_else(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    agree(run_id, sites)
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"num_examples": 5}, "its num_examples is 5, wanted 1"),
        ({"metrics": {"loss": 0.5}}, "it has metrics, wanted none"),
        ({"secure_round": "0" * 64}, "its secure_round is 000"),
        ({"parts": {}}, "its parts are none, wanted seals"),
        ({"scalars": {"normaliser": 1.0}}, "it has scalars, wanted none"),
    ]
    task = sites[0].site.claim()
    for changes, why in wrong:
        answer = sites[0].work(task, a_delta(0), claims=changes)
        assert answer.status_code == 422, f"{changes}: {answer.text}"
        assert why in answer.json()["detail"]
    plain = sites[0].site.upload(task, b"")
    assert plain.status_code == 422
    upload(sites[0])
    assert run_id


@pytest.mark.parametrize("phase", ["setup", "collecting", "signing", "opening"])
@pytest.mark.parametrize("act", ["cancel", "pause"])
def test_a_run_can_be_stopped_in_every_phase(
    phase: str, act: str, federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    reach(phase, run_id, sites)
    assert federation.round(run_id, 1).state == phase
    body = None if act == "cancel" else {"round": "burn"}
    federation.post(f"/runs/{run_id}/{act}", body, expect=200)
    shown = federation.round(run_id, 1)
    assert shown.state is RoundState.CANCELLED
    for site in sites:
        assert site.duties() == wire.Duties(items=[], expected=False)
        assert site.site.poll().status_code == 204
    if act == "cancel":
        assert federation.run(run_id).state is RunState.CANCELLED
        return
    federation.post(f"/runs/{run_id}/resume", expect=200)
    step(run_id)
    if federation.round(run_id, 1).state is RoundState.SETUP:
        agree(run_id, sites)
    for site in sites:
        upload(site)
    open_up(run_id, sites)
    ended_well(federation, run_id, 4, version=2 if phase == "setup" else 1)


def reach(phase: str, run_id: UUID, sites: list[SecureSite]) -> None:
    steps: list[Callable[[], object]] = [
        lambda: agree(run_id, sites),
        lambda: [*map(upload, sites), step(run_id)],
        lambda: [*(site.do() for site in sites), step(run_id)],
    ]
    phases = ["setup", "collecting", "signing", "opening"]
    for act in steps[: phases.index(phase)]:
        act()


def test_a_late_joiner_makes_the_next_version_of_the_roster(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation, rounds=2)
    work: Callable[[SecureSite, wire.Task], Any] = lambda site, task: site.work(task, a_delta(1))  # noqa: E731
    agree(run_id, sites)
    for site in sites:
        upload(site)
    for site in sites:
        site.do()
    step(run_id)
    sites += secure_sites(federation, dict(BASE), "vaasa")
    open_up(run_id, sites[:4])
    whole_round(run_id, sites, work)
    run = federation.run(run_id)
    assert run.state is RunState.COMPLETED, run.state_reason
    second = federation.round(run_id, 2).secure
    assert second is not None
    assert (second.roster_version, second.members, second.survivors) == (2, 5, 5)


def test_a_revoked_site_is_waited_for_no_more(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    for site in sites[:3]:
        site.do()
    change_state(federation, sites[3].site, "revoke", reason="left")
    step(run_id)
    for site in sites[:3]:
        assert site.do([DutyKind.CONFIRM]) == 1
    step(run_id)
    for site in sites[:3]:
        upload(site)
    open_up(run_id, sites[:3])
    ended_well(federation, run_id, 3)


def test_a_site_that_replaces_its_key_is_waited_for_no_more(
    federation: Federation, sites: list[SecureSite], client: TestClient
) -> None:
    run_id = started(federation)
    for site in sites:
        site.do()
    step(run_id)
    old, new = sites[3].site.identity, SiteIdentity("turku")
    payload = {"new_public_key": new.public, "site_id": str(old.id)}
    body = {
        "new_public_key": new.public,
        "signature_by_old": old.sign(Purpose.ROTATE, payload),
        "signature_by_new": new.sign(Purpose.ROTATE, payload),
    }
    assert client.post("/v1/site/keys", json=body, headers=old.headers).status_code == 200
    step(run_id)
    agree(run_id, sites[:3])
    excluded = {it.site: it.reason for it in federation.round(run_id, 1).excluded}
    assert excluded == {
        "turku": "its identity key was replaced since it made its keys for the roster"
    }


def test_an_sdk_that_knows_no_secure_aggregation_is_not_waited_for(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    assert sites[3].site.poll(features=()).status_code == 204
    for site in sites[:3]:
        assert site.do() == 1
    step(run_id)
    for site in sites[:3]:
        assert site.do([DutyKind.CONFIRM]) == 1
    excluded = {it.site: it.reason for it in federation.round(run_id, 1).excluded}
    assert "too old for secure aggregation" in excluded["turku"]


def test_claims_and_heartbeats_say_that_duties_wait(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation)
    asked = sites[0].site.poll(wait_seconds=20)
    assert (asked.status_code, asked.headers["X-Hansa-Duties"]) == (204, "1")
    agree(run_id, sites)
    given = sites[3].site.poll()
    assert (given.status_code, given.headers["X-Hansa-Duties"]) == (200, "0")
    assert sites[3].site.beat(wire.Task.model_validate(given.json())).json()["duties"] == 0
    for site in sites[:3]:
        upload(site)
    overdue(federation)
    step(run_id)
    assert sites[0].site.poll().headers["X-Hansa-Duties"] == "1"


def test_a_roster_is_for_the_federations_sites_and_readers(
    federation: Federation,
    sites: list[SecureSite],
    client: TestClient,
    transactions: Transactions,
    settings: Settings,
) -> None:
    run_id = started(federation)
    agree(run_id, sites)
    shown = federation.round(run_id, 1).secure
    assert shown is not None
    path = f"/v1/rosters/{shown.roster}"
    told = client.get(path, headers=federation.owner.headers)
    assert told.status_code == 200
    assert len(told.json()["confirmations"]) == 4
    elsewhere = a_federation(client, transactions, settings, "coast")
    (stranger,) = secure_sites(elsewhere, dict(BASE), "fast")
    for headers in (elsewhere.owner.headers, stranger.site.identity.headers):
        assert client.get(path, headers=headers).status_code == 404
    assert client.get(path).status_code == 401
