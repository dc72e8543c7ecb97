"""Secure rounds that are set up: who comes into the roster, and who does not."""

from collections.abc import Callable
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.services import openings
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.signing import Purpose
from hansa_core.states import RoundState, RunState
from hansa_core.wire import DutyKind
from tests.factories import (
    Federation,
    a_federation,
    change_state,
)
from tests.identities import SiteIdentity, events_of
from tests.secure_sites import (
    SecureSite,
    agree,
    ended_well,
    open_up,
    overdue,
    secure_sites,
    started,
    step,
    upload,
    whole_round,
)
from tests.tensors import BASE, a_delta


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
