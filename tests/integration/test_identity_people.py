"""Logins, API tokens and accounts, over HTTP and on a real Postgres."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from app.domain.errors import IllegalTransitionError, NotAuthenticatedError
from app.services import sessions, users
from app.services.transactions import Transactions, Tx
from hansa_core import wire
from hansa_core.states import Scope
from tests.identities import (
    DEADLINE_SECONDS,
    PASSWORD,
    Person,
    make_federation,
    make_person,
    now,
    principal_of,
    wait_until_one_waits,
)

OTHER_PASSWORD = "another passphrase"  # noqa: S105


def log_in(client: TestClient, email: str, password: str = PASSWORD) -> int:
    return client.post("/v1/session", json={"email": email, "password": password}).status_code


def make_token(client: TestClient, person: Person, *scopes: Scope) -> Person:
    answer = client.post(
        "/v1/tokens", json={"name": "ci", "scopes": list(scopes)}, headers=person.headers
    )
    assert answer.status_code == 201, answer.text
    return Person(person.id, person.email, answer.json()["token"])


def test_login_and_logout(client: TestClient, transactions: Transactions) -> None:
    ada = make_person(transactions, "ada@example.org")
    answer = client.post(
        "/v1/session", json={"email": " ADA@Example.org".strip(), "password": PASSWORD}
    )
    assert answer.status_code == 201
    assert answer.json()["token"].startswith("hs_")
    assert answer.json()["user"]["id"] == str(ada.id)
    headers = {"Authorization": f"Bearer {answer.json()['token']}"}
    assert client.get("/v1/session", headers=headers).json()["email"] == "ada@example.org"
    assert client.delete("/v1/session", headers=headers).status_code == 204
    assert client.get("/v1/session", headers=headers).status_code == 401
    assert client.get("/v1/session", headers=ada.headers).status_code == 200  # another session


def test_a_wrong_password_and_an_unknown_address_get_the_same_answer(
    client: TestClient, transactions: Transactions
) -> None:
    make_person(transactions, "ada@example.org")
    wrong = client.post("/v1/session", json={"email": "ada@example.org", "password": "no"})
    unknown = client.post("/v1/session", json={"email": "eve@example.org", "password": "no"})
    assert wrong.status_code == unknown.status_code == 401
    assert wrong.json() == unknown.json()
    assert wrong.json()["slug"] == "not-authenticated"
    assert wrong.headers["WWW-Authenticate"] == "Bearer"


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "Bearer hs_nothing"}, {"Authorization": "Basic YTpi"}],
    ids=["none", "unknown", "basic"],
)
def test_a_request_without_a_known_token_is_refused(
    client: TestClient, headers: dict[str, str]
) -> None:
    for path in ("/v1/session", "/v1/users", "/v1/tokens", "/v1/federations/x", "/v1/site"):
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.json()["slug"]) == (401, "not-authenticated")


def test_a_session_ends_at_its_hour(transactions: Transactions) -> None:
    ada = make_person(transactions)  # for one hour
    with transactions.begin("early") as tx:
        sessions.authenticate(tx, ada.token, now=now() + timedelta(minutes=59))
    with transactions.begin("late") as tx, pytest.raises(NotAuthenticatedError):
        sessions.authenticate(tx, ada.token, now=now() + timedelta(minutes=61))


def test_no_secret_is_stored(client: TestClient, transactions: Transactions) -> None:
    ada = make_person(transactions)
    token = make_token(client, ada, Scope.READ).token
    with transactions.begin("dump") as tx:
        connection = tx.session.connection()
        rows = connection.exec_driver_sql("SELECT t::text FROM api_tokens t").scalars().all()
    dump = "".join(rows)
    assert len(rows) == 2
    assert token not in dump
    assert ada.token not in dump


def test_use_of_a_token_is_noted_at_most_once_a_minute(
    client: TestClient, transactions: Transactions
) -> None:
    ada = make_person(transactions)
    token = make_token(client, ada, Scope.READ)

    def used_at(moment_offset: timedelta) -> str:
        with transactions.begin("use") as tx:
            sessions.authenticate(tx, token.token, now=start + moment_offset)
        return client.get("/v1/tokens", headers=ada.headers).json()["items"][0]["last_used_at"]

    start = now()
    first = used_at(timedelta())
    assert first is not None
    assert used_at(timedelta(seconds=59)) == first
    assert used_at(timedelta(seconds=60)) != first


def test_a_token_has_its_scopes_and_no_more(client: TestClient, transactions: Transactions) -> None:
    ada = make_person(transactions)
    reader = make_token(client, ada, Scope.READ)
    assert client.get("/v1/federations", headers=reader.headers).status_code == 200
    body = {"slug": "nordic", "name": "Nordic"}
    refused = client.post("/v1/federations", json=body, headers=reader.headers)
    assert (refused.status_code, refused.json()["slug"]) == (403, "forbidden")
    assert "needs admin" in refused.json()["detail"]


def test_a_token_cannot_make_a_stronger_one(client: TestClient, transactions: Transactions) -> None:
    ada = make_person(transactions)
    admin_only = make_token(client, ada, Scope.ADMIN)
    body = {"name": "more", "scopes": ["admin", "runs"]}
    assert client.post("/v1/tokens", json=body, headers=admin_only.headers).status_code == 403
    weaker = {"name": "same", "scopes": ["admin"]}
    assert client.post("/v1/tokens", json=weaker, headers=admin_only.headers).status_code == 201


def test_a_revoked_token_is_dead_at_once_and_revoking_repeats(
    client: TestClient, transactions: Transactions
) -> None:
    ada = make_person(transactions)
    token = make_token(client, ada, Scope.READ)
    token_id = client.get("/v1/tokens", headers=ada.headers).json()["items"][0]["id"]
    for _ in range(2):
        assert client.delete(f"/v1/tokens/{token_id}", headers=ada.headers).status_code == 204
    assert client.get("/v1/session", headers=token.headers).status_code == 401
    assert client.get("/v1/tokens", headers=ada.headers).json()["items"] == []


def test_somebody_elses_token_is_not_found(client: TestClient, transactions: Transactions) -> None:
    ada, eve = make_person(transactions), make_person(transactions, "eve@example.org")
    make_token(client, ada, Scope.READ)
    token_id = client.get("/v1/tokens", headers=ada.headers).json()["items"][0]["id"]
    assert client.delete(f"/v1/tokens/{token_id}", headers=eve.headers).status_code == 404
    assert client.get("/v1/tokens", headers=eve.headers).json()["items"] == []


def test_admins_make_and_list_people(client: TestClient, transactions: Transactions) -> None:
    root = make_person(transactions, "root@example.org", is_admin=True)
    body = {"email": "Ada@Example.org", "name": "Ada", "password": PASSWORD}
    made = client.post("/v1/users", json=body, headers=root.headers)
    assert made.status_code == 201
    assert made.json()["email"] == "ada@example.org"
    assert PASSWORD not in made.text
    again = client.post("/v1/users", json=body, headers=root.headers)
    assert (again.status_code, again.json()["slug"]) == (409, "already-exists")
    listed = client.get("/v1/users", headers=root.headers).json()["items"]
    assert [user["email"] for user in listed] == ["ada@example.org", "root@example.org"]
    assert log_in(client, "ada@example.org") == 201


def test_other_people_see_and_change_only_themselves(
    client: TestClient, transactions: Transactions
) -> None:
    ada, eve = make_person(transactions), make_person(transactions, "eve@example.org")
    assert client.get("/v1/users", headers=eve.headers).status_code == 403
    assert client.get(f"/v1/users/{ada.id}", headers=eve.headers).status_code == 403
    assert client.get(f"/v1/users/{eve.id}", headers=eve.headers).status_code == 200
    path = f"/v1/users/{eve.id}"
    renamed = client.patch(path, json={"name": "Evelyn"}, headers=eve.headers)
    assert renamed.json()["name"] == "Evelyn"
    promoted = client.patch(path, json={"is_admin": True}, headers=eve.headers)
    assert promoted.status_code == 403
    other = client.patch(f"/v1/users/{ada.id}", json={"name": "x"}, headers=eve.headers)
    assert other.status_code == 403


def test_a_new_password_ends_the_other_sessions(
    client: TestClient, transactions: Transactions
) -> None:
    ada = make_person(transactions)
    other = client.post("/v1/session", json={"email": ada.email, "password": PASSWORD}).json()
    other_headers = {"Authorization": f"Bearer {other['token']}"}
    body = {"password": OTHER_PASSWORD}
    assert client.patch(f"/v1/users/{ada.id}", json=body, headers=ada.headers).status_code == 200
    assert client.get("/v1/session", headers=ada.headers).status_code == 200
    assert client.get("/v1/session", headers=other_headers).status_code == 401
    assert log_in(client, ada.email) == 401
    assert log_in(client, ada.email, OTHER_PASSWORD) == 201


def test_a_login_that_raced_a_password_change_is_refused(
    transactions: Transactions, client: TestClient
) -> None:
    ada = make_person(transactions)
    with transactions.begin("find") as tx:
        stored = sessions.find_login(tx, ada.email)
    assert stored is not None
    body = {"password": OTHER_PASSWORD}
    assert client.patch(f"/v1/users/{ada.id}", json=body, headers=ada.headers).status_code == 200
    with transactions.begin("open") as tx, pytest.raises(NotAuthenticatedError):
        sessions.open_session(tx, stored, now=now(), hours=1)


def test_a_disabled_person_is_out_at_once_and_old_tokens_stay_dead(
    client: TestClient, transactions: Transactions
) -> None:
    root = make_person(transactions, "root@example.org", is_admin=True)
    ada = make_person(transactions)
    token = make_token(client, ada, Scope.READ)
    path = f"/v1/users/{ada.id}"
    disabled = client.patch(path, json={"disabled": True}, headers=root.headers)
    assert disabled.json()["disabled_at"] is not None
    assert client.get("/v1/session", headers=ada.headers).status_code == 401
    assert client.get("/v1/session", headers=token.headers).status_code == 401
    assert log_in(client, ada.email) == 401
    enabled = client.patch(path, json={"disabled": False}, headers=root.headers)
    assert enabled.json()["disabled_at"] is None
    assert client.get("/v1/session", headers=token.headers).status_code == 401
    assert log_in(client, ada.email) == 201


@pytest.mark.parametrize("body", [{"is_admin": False}, {"disabled": True}], ids=str)
def test_the_only_admin_stays(
    client: TestClient, transactions: Transactions, body: dict[str, bool]
) -> None:
    root = make_person(transactions, "root@example.org", is_admin=True)
    path = f"/v1/users/{root.id}"
    refused = client.patch(path, json=body, headers=root.headers)
    assert (refused.status_code, refused.json()["slug"]) == (409, "illegal-transition")
    make_person(transactions, "second@example.org", is_admin=True)
    assert client.patch(path, json=body, headers=root.headers).status_code == 200


def test_two_admins_cannot_demote_each_other_at_once(transactions: Transactions) -> None:
    people = [
        make_person(transactions, f"root{number}@example.org", is_admin=True) for number in (1, 2)
    ]
    principals = [principal_of(transactions, person) for person in people]

    def demote(which: int, tx: Tx) -> wire.User:
        request = wire.UserChange(is_admin=False)
        target = people[1 - which].id
        return users.change(tx, principals[which], target, request, password_hash=None, now=now())

    def demote_first() -> None:
        with transactions.begin("second") as tx:
            demote(1, tx)

    with ThreadPoolExecutor(1) as pool:
        with transactions.begin("first") as tx:
            assert not demote(0, tx).is_admin
            second = pool.submit(demote_first)
            wait_until_one_waits(transactions)
        with pytest.raises(IllegalTransitionError, match="only admin"):
            second.result(DEADLINE_SECONDS)


def test_ensure_admin_makes_one_and_leaves_a_password_alone(
    client: TestClient, transactions: Transactions
) -> None:
    ada = make_person(transactions, "ada@example.org")

    def ensure(email: str) -> wire.User:
        with transactions.begin("ensure") as tx:
            return users.ensure_admin(tx, email=email, name="Root", password=OTHER_PASSWORD)

    assert ensure("Root@example.org").is_admin
    assert ensure("root@example.org").email == "root@example.org"
    assert log_in(client, "root@example.org", OTHER_PASSWORD) == 201
    assert ensure("ada@example.org").is_admin
    assert log_in(client, ada.email) == 201
    assert client.get("/v1/users", headers=ada.headers).status_code == 200


def test_pages_hold_everything_once(client: TestClient, transactions: Transactions) -> None:
    root = make_person(transactions, "root@example.org", is_admin=True)
    for number in range(6):
        make_person(transactions, f"p{number}@example.org")
    seen: list[str] = []
    cursor: str | None = None
    while True:
        params = {"limit": "3", **({"cursor": cursor} if cursor else {})}
        page = client.get("/v1/users", params=params, headers=root.headers).json()
        assert 1 <= len(page["items"]) <= 3
        seen += [user["email"] for user in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [f"p{number}@example.org" for number in range(5, -1, -1)] + [root.email]


@pytest.mark.parametrize("cursor", ["x", "!!", "NDI", "%00", ""], ids=str)
def test_a_made_up_cursor_is_refused(
    client: TestClient, transactions: Transactions, cursor: str
) -> None:
    ada = make_person(transactions)
    answer = client.get(f"/v1/federations?cursor={cursor}", headers=ada.headers)
    assert (answer.status_code, answer.json()["slug"]) == (422, "invalid-request")


def test_admins_are_owners_everywhere(client: TestClient, transactions: Transactions) -> None:
    root = make_person(transactions, "root@example.org", is_admin=True)
    ada = make_person(transactions)
    make_federation(client, ada)
    seen = client.get("/v1/federations", headers=root.headers).json()["items"]
    assert [(item["slug"], item["my_role"]) for item in seen] == [("nordic", "owner")]
    body = {"description": "hospitals"}
    changed = client.patch("/v1/federations/nordic", json=body, headers=root.headers)
    assert changed.json()["description"] == "hospitals"
