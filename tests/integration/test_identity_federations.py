"""Federations, their members and invitations, over HTTP and on a real Postgres."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from app.domain.errors import AlreadyExistsError, IllegalTransitionError
from app.services import federations
from app.services.principals import Membership
from app.services.transactions import Transactions
from hansa_core import wire
from hansa_core.states import Role
from tests.identities import (
    Person,
    add_member,
    events_of,
    make_federation,
    make_invitation,
    make_person,
    now,
    principal_of,
)


@pytest.fixture
def owner(transactions: Transactions) -> Person:
    return make_person(transactions, "owner@example.org")


@pytest.fixture
def federation(client: TestClient, owner: Person) -> str:
    return make_federation(client, owner)


def role_of(client: TestClient, person: Person, federation: str) -> str | None:
    answer = client.get(f"/v1/federations/{federation}", headers=person.headers)
    return answer.json()["my_role"] if answer.is_success else None


def test_the_founder_owns_a_federation_known_by_slug_and_id(
    client: TestClient, owner: Person, federation: str
) -> None:
    by_slug = client.get(f"/v1/federations/{federation}", headers=owner.headers)
    by_id = client.get(f"/v1/federations/{by_slug.json()['id']}", headers=owner.headers)
    assert by_slug.status_code == 200
    assert by_id.json() == by_slug.json()
    assert by_slug.json()["my_role"] == "owner"
    assert by_slug.json()["requires_approval"] is True


def test_a_slug_is_taken_once(client: TestClient, owner: Person, federation: str) -> None:
    body = {"slug": federation, "name": "Another"}
    answer = client.post("/v1/federations", json=body, headers=owner.headers)
    assert (answer.status_code, answer.json()["slug"]) == (409, "already-exists")


@pytest.mark.parametrize(
    "slug", ["01890a5d-ac96-774b-bcce-b302099a8057", "01890a5dac96774bbcceb302099a8057"]
)
def test_a_slug_that_reads_as_an_id_is_refused(
    client: TestClient, owner: Person, slug: str
) -> None:
    body = {"slug": slug, "name": "Trap"}
    answer = client.post("/v1/federations", json=body, headers=owner.headers)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["path"] == "slug"


def test_a_stranger_is_not_told_that_a_federation_exists(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    eve = make_person(transactions, "eve@example.org")
    federation_id = client.get(f"/v1/federations/{federation}", headers=owner.headers).json()["id"]
    for name in (federation, federation_id, "nowhere", str(uuid4())):
        for path in ("", "/members", "/invitations", "/sites"):
            answer = client.get(f"/v1/federations/{name}{path}", headers=eve.headers)
            assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")
            assert answer.json()["detail"] == f"you have no federation {name!r}"
    assert client.get("/v1/federations", headers=eve.headers).json()["items"] == []


@pytest.mark.parametrize(
    ("role", "may_invite", "may_govern"),
    [
        (Role.OWNER, True, True),
        (Role.OPERATOR, True, False),
        (Role.RESEARCHER, False, False),
        (Role.AUDITOR, False, False),
    ],
)
def test_each_role_may_do_its_part(
    client: TestClient,
    transactions: Transactions,
    owner: Person,
    federation: str,
    role: Role,
    may_invite: bool,
    may_govern: bool,
) -> None:
    person = make_person(transactions, "person@example.org")
    add_member(client, owner, federation, person, role)
    base = f"/v1/federations/{federation}"
    invited = client.post(f"{base}/invitations", json={}, headers=person.headers)
    governed = client.patch(base, json={"name": "New"}, headers=person.headers)
    assert invited.status_code == (201 if may_invite else 403)
    assert governed.status_code == (200 if may_govern else 403)
    for path in ("", "/members", "/invitations", "/sites"):
        assert client.get(base + path, headers=person.headers).status_code == 200


def test_settings_change_by_name_and_are_recorded(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    path = f"/v1/federations/{federation}"
    before = client.get(path, headers=owner.headers).json()
    for _ in range(2):  # the second changes nothing and records nothing
        changed = client.patch(path, json={"requires_approval": False}, headers=owner.headers)
        assert changed.json() == {**before, "requires_approval": False}
    events = events_of(transactions, UUID(before["id"]))
    assert [kind for kind, _ in events] == ["federation.created", "federation.changed"]
    assert events[-1][1]["changes"] == {"requires_approval": False}


def test_members_come_change_and_go(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    ada = make_person(transactions, "ada@example.org")
    base = f"/v1/federations/{federation}/members"
    assert role_of(client, ada, federation) is None
    for role in (Role.AUDITOR, Role.RESEARCHER, Role.RESEARCHER):
        add_member(client, owner, federation, ada, role)
        assert role_of(client, ada, federation) == role
    members = client.get(base, headers=owner.headers).json()["items"]
    assert [(item["email"], item["role"]) for item in members] == [
        ("ada@example.org", "researcher"),
        ("owner@example.org", "owner"),
    ]
    for _ in range(2):
        assert client.delete(f"{base}/{ada.id}", headers=owner.headers).status_code == 204
    assert role_of(client, ada, federation) is None
    federation_id = client.get(f"/v1/federations/{federation}", headers=owner.headers).json()["id"]
    kinds = [kind for kind, _ in events_of(transactions, UUID(federation_id))]
    assert kinds == ["federation.created", "member.changed", "member.changed", "member.removed"]


def test_nobody_and_disabled_people_cannot_become_members(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    root = make_person(transactions, "root@example.org", is_admin=True)
    ada = make_person(transactions, "ada@example.org")
    client.patch(f"/v1/users/{ada.id}", json={"disabled": True}, headers=root.headers)
    for user_id in (ada.id, uuid4()):
        answer = client.put(
            f"/v1/federations/{federation}/members/{user_id}",
            json={"role": "owner"},
            headers=owner.headers,
        )
        assert (answer.status_code, answer.json()["slug"]) == (404, "not-found")


def test_the_last_owner_can_neither_leave_nor_step_down(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    ada = make_person(transactions, "ada@example.org")
    add_member(client, owner, federation, ada, Role.OPERATOR)
    path = f"/v1/federations/{federation}/members/{owner.id}"
    left = client.delete(path, headers=owner.headers)
    stepped = client.put(path, json={"role": "auditor"}, headers=owner.headers)
    for answer in (left, stepped):
        assert (answer.status_code, answer.json()["slug"]) == (409, "illegal-transition")
    add_member(client, owner, federation, ada, Role.OWNER)
    assert client.delete(path, headers=owner.headers).status_code == 204
    assert role_of(client, owner, federation) is None


def test_a_disabled_owner_does_not_count(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    root = make_person(transactions, "root@example.org", is_admin=True)
    ada = make_person(transactions, "ada@example.org")
    add_member(client, owner, federation, ada, Role.OWNER)
    client.patch(f"/v1/users/{ada.id}", json={"disabled": True}, headers=root.headers)
    path = f"/v1/federations/{federation}/members/{owner.id}"
    assert client.delete(path, headers=owner.headers).status_code == 409


def test_owners_who_remove_each_other_at_once_leave_one(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    people = [owner] + [
        make_person(transactions, f"owner{number}@example.org") for number in range(3)
    ]
    for person in people[1:]:
        add_member(client, owner, federation, person, Role.OWNER)
    memberships: list[Membership] = []
    for person in people:
        principal = principal_of(transactions, person)
        with transactions.begin("access") as tx:
            memberships.append(federations.access(tx, principal, federation))
    barrier = Barrier(len(people))

    def remove(which: int) -> bool:
        target = people[(which + 1) % len(people)]
        barrier.wait(10)
        try:
            with transactions.begin("remove") as tx:
                federations.remove_member(tx, memberships[which], target.email)
        except IllegalTransitionError:
            return False
        return True

    with ThreadPoolExecutor(len(people)) as pool:
        done = list(pool.map(remove, range(len(people))))
    assert sorted(done) == [False, True, True, True]
    root = make_person(transactions, "root@example.org", is_admin=True)
    left = client.get(f"/v1/federations/{federation}/members", headers=root.headers).json()["items"]
    assert [item["role"] for item in left] == ["owner"]


def test_an_invitation_shows_its_secret_and_command_once(
    client: TestClient, owner: Person, federation: str
) -> None:
    made = make_invitation(client, owner, federation, max_uses=3, labels={"country": "no"})
    assert made["token"].startswith("hi_")
    assert made["command"].endswith(f" {made['token']} --name NAME")
    assert made["command"].startswith("hansa site enroll http")
    listed = client.get(f"/v1/federations/{federation}/invitations", headers=owner.headers)
    assert made["token"] not in listed.text
    (item,) = listed.json()["items"]
    assert (item["id"], item["max_uses"], item["uses"]) == (made["id"], 3, 0)
    assert item["labels"] == {"country": "no"}


def test_revoking_an_invitation_repeats_and_stays_inside_the_federation(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    made = make_invitation(client, owner, federation)
    eve = make_person(transactions, "eve@example.org")
    other = make_federation(client, eve, "other")
    foreign = client.delete(
        f"/v1/federations/{other}/invitations/{made['id']}", headers=eve.headers
    )
    assert foreign.status_code == 404
    path = f"/v1/federations/{federation}/invitations"
    for _ in range(2):
        assert client.delete(f"{path}/{made['id']}", headers=owner.headers).status_code == 204
    (item,) = client.get(path, headers=owner.headers).json()["items"]
    assert item["revoked_at"] is not None


def test_a_race_for_a_slug_has_one_winner(transactions: Transactions, owner: Person) -> None:
    principal = principal_of(transactions, owner)
    barrier = Barrier(4)

    def found(_: int) -> bool:
        barrier.wait(10)
        try:
            with transactions.begin("found") as tx:
                request = wire.FederationCreate(slug="wanted", name="Wanted")
                federations.create(tx, principal, request, now=now())
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(found, range(4))) == [False, False, False, True]
