"""Federations at a glance: what is counted, for whom, and in how many statements."""

from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import Engine, event

from app.db import alerts as alert_rows
from app.domain.clock import utc_now
from app.domain.ids import new_id
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.states import Role, Scope
from tests.factories import (
    Federation,
    a_federation,
    a_model,
    a_plan,
    a_run,
    an_active_site,
    change_state,
    sites_online,
    work_off,
)
from tests.identities import (
    Person,
    SiteIdentity,
    add_member,
    make_federation,
    make_invitation,
    make_person,
)
from tests.tensors import a_delta


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


def overview(federation: Federation) -> wire.Overview:
    return wire.Overview.model_validate(federation.get("/overview"))


def overviews(client: TestClient, person: Person, **params: Any) -> wire.Page[wire.Overview]:
    answer = client.get("/v1/overview", params=params, headers=person.headers)
    assert answer.status_code == 200, answer.text
    return wire.Page[wire.Overview].model_validate(answer.json())


def raise_alert(federation: Federation, kind: str, severity: str) -> None:
    with federation.transactions.begin("raise_alert") as tx:
        alert_rows.upsert(
            tx.session,
            id=new_id(),
            federation_id=federation.id,
            kind=kind,
            subject="oslo",
            severity=severity,
            message="look here",
            raised_at=utc_now(),
            last_at=utc_now(),
        )


def resolve_alert(federation: Federation, kind: str) -> None:
    with federation.transactions.begin("resolve_alert") as tx:
        alert_rows.resolve(tx.session, federation.id, kind=kind, subject="oslo", now=utc_now())


def a_token(client: TestClient, person: Person, *scopes: Scope) -> Person:
    body = {"name": "ci", "scopes": list(scopes)}
    made = client.post("/v1/tokens", json=body, headers=person.headers).json()
    return Person(person.id, person.email, made["token"])


def actions(client: TestClient, person: Person, federation: str) -> list[str]:
    answer = client.get(f"/v1/federations/{federation}", headers=person.headers)
    assert answer.status_code == 200, answer.text
    return answer.json()["my_actions"]


@contextmanager
def statements() -> Generator[list[str]]:
    """Collect the SQL statements of this process."""
    seen: list[str] = []

    def note(*call: Any) -> None:
        seen.append(call[2])

    event.listen(Engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(Engine, "before_cursor_execute", note)


def test_a_new_federation_has_nothing_but_its_founding(federation: Federation) -> None:
    seen = overview(federation)
    assert seen.federation.slug == "nordic"
    assert seen.sites == wire.SiteCounts()
    assert seen.runs == wire.RunCounts()
    assert (seen.open_alerts, seen.worst_alert, seen.rounds_completed) == (0, None, 0)
    assert seen.last_event_at is not None


def test_sites_are_counted_by_state_and_only_active_ones_as_online(
    client: TestClient, federation: Federation
) -> None:
    _, _, suspended, revoked = sites_online(federation, "oslo", "bergen", "turku", "malmo")
    an_active_site(federation, "never-seen")
    change_state(federation, suspended, "suspend")
    change_state(federation, revoked, "revoke")
    answer = client.patch(
        "/v1/federations/nordic",
        json={"requires_approval": True},
        headers=federation.owner.headers,
    )
    assert answer.status_code == 200, answer.text
    invitation = make_invitation(client, federation.owner, "nordic")
    SiteIdentity("waiting").enroll(client, invitation["token"])
    counts = wire.SiteCounts(pending=1, active=3, online=2, suspended=1, revoked=1)
    assert overview(federation).sites == counts


def test_runs_are_counted_by_state_and_their_rounds_are_added_up(
    federation: Federation,
) -> None:
    sites = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    for name, rounds in (("first", 2), ("second", 1)):
        a_run(federation, name=name, rounds=rounds)
        for number in range(rounds):
            work_off(federation)
            for site in sites:
                site.answer(site.claim(), a_delta(number))
        work_off(federation)
    federation.post("/runs", {"plan": a_plan(name="draft"), "start": False})
    a_run(federation, name="queued")
    stopped = a_run(federation, name="stopped")
    federation.post(f"/runs/{stopped.id}/cancel", expect=200)
    seen = overview(federation)
    assert seen.runs == wire.RunCounts(draft=1, queued=1, completed=2, cancelled=1)
    assert seen.rounds_completed == 3
    work_off(federation)
    assert overview(federation).runs.running == 1


def test_the_worst_of_the_open_alerts_is_told(federation: Federation) -> None:
    seen: list[tuple[int, str | None]] = []
    for kind, severity in (("a", "info"), ("b", "critical"), ("c", "warning")):
        raise_alert(federation, kind, severity)
        raise_alert(federation, kind, severity)  # again: it only counts up
        now = overview(federation)
        seen.append((now.open_alerts, now.worst_alert))
    assert seen == [(1, "info"), (2, "critical"), (3, "critical")]
    resolve_alert(federation, "b")
    assert overview(federation).worst_alert == "warning"


def test_the_newest_event_is_told(federation: Federation) -> None:
    before = overview(federation).last_event_at
    assert before is not None
    an_active_site(federation, "oslo")
    after = overview(federation).last_event_at
    assert after is not None
    assert after > before
    assert after == max(
        wire.Event.model_validate(it).at for it in federation.get("/events")["items"]
    )


def test_federations_do_not_count_for_each_other(
    client: TestClient, transactions: Transactions, settings: Settings, federation: Federation
) -> None:
    other = a_federation(client, transactions, settings, "baltic")
    sites_online(federation, "oslo", "bergen")
    sites_online(other, "riga")
    a_model(other)
    a_run(other, cohort={"min_sites": 1})
    raise_alert(other, "a", "critical")
    admin = make_person(transactions, "admin@example.org", is_admin=True)
    shown = {it.federation.slug: it for it in overviews(client, admin).items}
    assert {slug: it.sites.online for slug, it in shown.items()} == {"nordic": 2, "baltic": 1}
    assert {slug: it.runs.queued for slug, it in shown.items()} == {"nordic": 0, "baltic": 1}
    assert {slug: it.open_alerts for slug, it in shown.items()} == {"nordic": 0, "baltic": 1}
    assert shown["nordic"] == overview(federation).model_copy(
        update={"federation": shown["nordic"].federation}
    )
    mine = overviews(client, federation.owner).items
    assert [it.federation.slug for it in mine] == ["nordic"]
    assert (
        client.get("/v1/federations/baltic/overview", headers=federation.owner.headers).status_code
        == 404
    )


def test_pages_go_on_where_they_ended_while_federations_are_founded(
    client: TestClient, transactions: Transactions
) -> None:
    ada = make_person(transactions)
    for slug in ("a", "b", "c", "d", "e"):
        make_federation(client, ada, slug)
    shown: list[str] = []
    cursor: str | None = None
    for late in ("late-1", "late-2", "late-3"):
        page = overviews(client, ada, limit=2, **({} if cursor is None else {"cursor": cursor}))
        shown += [it.federation.slug for it in page.items]
        cursor = page.next_cursor
        make_federation(client, ada, late)
    assert cursor is None
    assert shown == ["e", "d", "c", "b", "a"]
    newest = overviews(client, ada, limit=3).items
    assert [it.federation.slug for it in newest] == ["late-3", "late-2", "late-1"]


def test_a_page_takes_as_many_statements_as_one_federation(
    client: TestClient, transactions: Transactions
) -> None:
    ada = make_person(transactions)
    make_federation(client, ada, "a")
    with statements() as of_one:
        assert len(overviews(client, ada).items) == 1
    for slug in ("b", "c", "d", "e"):
        make_federation(client, ada, slug)
    with statements() as of_five:
        assert len(overviews(client, ada).items) == 5
    assert len(of_five) == len(of_one)


def test_reading_takes_a_token_that_may_read(client: TestClient, federation: Federation) -> None:
    blind = a_token(client, federation.owner, Scope.RUNS)
    for path in ("/v1/overview", "/v1/federations/nordic/overview"):
        assert client.get(path, headers=blind.headers).status_code == 403
        assert client.get(path).status_code == 401
    assert (
        client.get(
            "/v1/overview", params={"cursor": "?"}, headers=federation.owner.headers
        ).status_code
        == 422
    )


@pytest.mark.parametrize(
    ("role", "allowed"),
    [
        (Role.OWNER, ["audit", "enroll", "govern", "hold", "read", "run"]),
        (Role.OPERATOR, ["enroll", "read"]),
        (Role.RESEARCHER, ["read", "run"]),
        (Role.AUDITOR, ["audit", "hold", "read"]),
    ],
)
def test_one_is_told_what_ones_role_allows(
    client: TestClient,
    transactions: Transactions,
    federation: Federation,
    role: Role,
    allowed: list[str],
) -> None:
    grace = make_person(transactions, "grace@example.org")
    add_member(client, federation.owner, "nordic", grace, role)
    assert actions(client, grace, "nordic") == allowed
    assert overviews(client, grace).items[0].federation.my_actions == allowed
    listed = client.get("/v1/federations", headers=grace.headers).json()["items"]
    assert [it["my_actions"] for it in listed] == [allowed]


def test_a_token_narrows_what_one_may_do(client: TestClient, federation: Federation) -> None:
    narrow = a_token(client, federation.owner, Scope.READ, Scope.SITES)
    assert actions(client, narrow, "nordic") == ["audit", "enroll", "read"]


def test_an_admin_without_membership_may_do_what_an_owner_may(
    client: TestClient, transactions: Transactions, federation: Federation
) -> None:
    admin = make_person(transactions, "admin@example.org", is_admin=True)
    assert actions(client, admin, "nordic") == actions(client, federation.owner, "nordic")


def test_whoever_founds_a_federation_may_govern_it(
    client: TestClient, transactions: Transactions
) -> None:
    ada = make_person(transactions)
    body = {"slug": "arctic", "name": "Arctic"}
    made = client.post("/v1/federations", json=body, headers=ada.headers).json()
    assert "govern" in made["my_actions"]
