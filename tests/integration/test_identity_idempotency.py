"""Repeats of a POST, one after the other and at once."""

import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from app.domain.errors import AlreadyExistsError, IdempotencyKeyReusedError
from app.services import federations, idempotency
from app.services.idempotency import Claim
from app.services.principals import Principal
from app.services.transactions import Transactions
from hansa_core import wire
from tests.identities import (
    DEADLINE_SECONDS,
    Person,
    make_federation,
    make_person,
    now,
    principal_of,
    wait_until_one_waits,
)

BODY = {"slug": "nordic", "name": "Nordic"}


@pytest.fixture
def owner(transactions: Transactions) -> Person:
    return make_person(transactions)


def post(
    client: TestClient, person: Person, path: str, body: Mapping[str, object], key: str
) -> tuple[int, dict[str, object]]:
    headers = {**person.headers, "Idempotency-Key": key}
    answer = client.post(path, json=body, headers=headers)
    return answer.status_code, answer.json()


def claim_of(principal: Principal, key: str = "k") -> Claim:
    request_hash = idempotency.hash_request("POST", "/v1/federations", b"{}")
    return Claim(principal.user_id, key, request_hash, now())


def create(
    transactions: Transactions,
    principal: Principal,
    claim: Claim,
    before_end: Callable[[], object] = lambda: None,
) -> wire.Federation:
    """Found "nordic" under the claim; `before_end` runs while the transaction is open."""

    def make() -> wire.Federation:
        request = wire.FederationCreate(slug="nordic", name="Nordic")
        made = federations.create(tx, principal, request, now=now())
        before_end()
        return made

    with transactions.begin("create") as tx:
        return idempotency.once(tx, claim, wire.Federation, make)


def test_a_repeat_gets_the_first_answer(client: TestClient, owner: Person) -> None:
    first = post(client, owner, "/v1/federations", BODY, "a")
    assert first[0] == 201
    client.patch("/v1/federations/nordic", json={"name": "Changed"}, headers=owner.headers)
    assert post(client, owner, "/v1/federations", BODY, "a") == first
    assert post(client, owner, "/v1/federations", BODY, "b")[0] == 409


def test_the_same_key_with_another_request_is_refused(client: TestClient, owner: Person) -> None:
    assert post(client, owner, "/v1/federations", BODY, "a")[0] == 201
    other = {"slug": "baltic", "name": "Baltic"}
    status, problem = post(client, owner, "/v1/federations", other, "a")
    assert (status, problem["slug"]) == (422, "idempotency-key-reused")


def test_a_key_belongs_to_one_person(
    client: TestClient, transactions: Transactions, owner: Person
) -> None:
    eve = make_person(transactions, "eve@example.org")
    assert post(client, owner, "/v1/federations", BODY, "a")[0] == 201
    status, problem = post(client, eve, "/v1/federations", BODY, "a")
    assert (status, problem["slug"]) == (409, "already-exists")


def test_a_failure_is_not_remembered(
    client: TestClient, transactions: Transactions, owner: Person
) -> None:
    eve = make_person(transactions, "eve@example.org")
    make_federation(client, eve, "nordic")
    for _ in range(2):
        status, problem = post(client, owner, "/v1/federations", BODY, "a")
        assert (status, problem["slug"]) == (409, "already-exists")
    assert post(client, owner, "/v1/federations", {"slug": "baltic", "name": "B"}, "a")[0] == 201


def test_a_secret_is_not_shown_again_and_not_stored(
    client: TestClient, transactions: Transactions, owner: Person
) -> None:
    make_federation(client, owner)
    requests: list[tuple[str, dict[str, object]]] = [
        ("/v1/tokens", {"name": "ci", "scopes": ["read"]}),
        ("/v1/federations/nordic/invitations", {}),
    ]
    secrets: list[str] = []
    for path, body in requests:
        status, made = post(client, owner, path, body, f"key-of-{path}")
        assert status == 201
        secrets.append(str(made["token"]))
        status, problem = post(client, owner, path, body, f"key-of-{path}")
        assert (status, problem["slug"]) == (409, "secret-already-shown")
        assert str(made["id"]) in str(problem["detail"])
        assert len(client.get(path, headers=owner.headers).json()["items"]) == 1
    with transactions.begin("dump") as tx:
        connection = tx.session.connection()
        query = "SELECT t::text FROM idempotency_keys t"
        rows = connection.exec_driver_sql(query).scalars().all()
    assert len(rows) == 2
    assert not any(secret in row for secret in secrets for row in rows)


@pytest.mark.parametrize("key", ["", "x" * 201, "with space"])
def test_a_malformed_key_is_refused(client: TestClient, owner: Person, key: str) -> None:
    assert post(client, owner, "/v1/federations", BODY, key)[0] == 422


def test_a_repeat_that_comes_meanwhile_waits_and_gets_the_first_answer(
    transactions: Transactions, owner: Person
) -> None:
    principal = principal_of(transactions, owner)
    claim = claim_of(principal)
    made, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        made.set()
        assert go_on.wait(DEADLINE_SECONDS)

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(create, transactions, principal, claim, hold)
        assert made.wait(DEADLINE_SECONDS)
        second = pool.submit(create, transactions, principal, claim)
        wait_until_one_waits(transactions)
        assert not second.done()
        go_on.set()
        assert second.result(DEADLINE_SECONDS) == first.result(DEADLINE_SECONDS)


def test_a_repeat_that_waited_for_a_failure_does_the_work(
    transactions: Transactions, owner: Person
) -> None:
    principal = principal_of(transactions, owner)
    claim = claim_of(principal)
    made, go_on = threading.Event(), threading.Event()

    def fail() -> None:
        made.set()
        assert go_on.wait(DEADLINE_SECONDS)
        raise ConnectionError("cut")

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(create, transactions, principal, claim, fail)
        assert made.wait(DEADLINE_SECONDS)
        second = pool.submit(create, transactions, principal, claim)
        wait_until_one_waits(transactions)
        go_on.set()
        with pytest.raises(ConnectionError):
            first.result(DEADLINE_SECONDS)
        assert second.result(DEADLINE_SECONDS).slug == "nordic"


def test_many_at_once_make_one(transactions: Transactions, owner: Person) -> None:
    principal = principal_of(transactions, owner)
    claim = claim_of(principal)
    barrier = threading.Barrier(8)

    def repeat(_: int) -> wire.Federation:
        barrier.wait(DEADLINE_SECONDS)
        return create(transactions, principal, claim)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(repeat, range(8)))
    assert len({answer.id for answer in answers}) == 1


def test_old_keys_are_forgotten(transactions: Transactions, owner: Person) -> None:
    principal = principal_of(transactions, owner)
    claim = claim_of(principal)
    create(transactions, principal, claim)
    other = replace(claim, request_hash=b"other")
    with transactions.begin("forget") as tx:
        idempotency.forget_old(tx, now=claim.at + idempotency.KEPT_FOR)
    with pytest.raises(IdempotencyKeyReusedError):
        create(transactions, principal, other)
    with transactions.begin("forget") as tx:
        idempotency.forget_old(tx, now=claim.at + idempotency.KEPT_FOR + timedelta(seconds=1))
    with pytest.raises(AlreadyExistsError):  # no longer remembered: done anew
        create(transactions, principal, other)
