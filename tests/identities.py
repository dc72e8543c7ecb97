"""People and sites for tests of the hub: the real sign-in, the real keys and signatures."""

import threading
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from pydantic import SecretStr
from starlette.testclient import TestClient

from app.db import events
from app.services import sessions, users
from app.services.passwords import hash_password
from app.services.principals import Principal
from app.services.transactions import Transactions
from hansa_core import signing, wire
from hansa_core.canonical import canonical_json
from hansa_core.signing import Purpose
from hansa_core.states import Role, SiteState

DEADLINE_SECONDS = 10
PASSWORD = "a passphrase for tests"  # noqa: S105
PASSWORD_HASH = hash_password(SecretStr(PASSWORD))


@dataclass(frozen=True, slots=True)
class Person:
    """A person who is logged in."""

    id: UUID
    email: str
    token: str

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}


@dataclass(slots=True)
class SiteIdentity:
    """A site's side of the protocol: its key, and its token once it has one."""

    name: str
    private: bytes = field(default_factory=signing.generate_private_key)
    id: UUID = field(default_factory=lambda: UUID(int=0))  # until it is enrolled
    token: str = ""

    @property
    def public(self) -> str:
        return signing.encode_base64(signing.public_key(self.private))

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    def sign(self, purpose: Purpose, payload: Any) -> str:
        return signing.encode_base64(signing.sign(self.private, purpose, canonical_json(payload)))

    def signed_enrollment(self, invitation: str, **changes: Any) -> wire.SignedEnrollment:
        message = wire.Enrollment(
            invitation=invitation,
            site_name=self.name,
            public_key=self.public,
            labels=changes.get("labels", {}),
            hardware=wire.Hardware(cpus=4, memory_bytes=2**33),
            sdk_version="0.1.0",
        )
        signature = self.sign(Purpose.ENROLL, message.model_dump(mode="json"))
        return wire.SignedEnrollment(enrollment=message, signature=signature)

    def enroll(self, client: TestClient, invitation: str, *, expect: int = 201) -> dict[str, Any]:
        """Redeem an invitation over HTTP."""
        body = self.signed_enrollment(invitation).model_dump(mode="json")
        answer = client.post("/v1/enrollments", json=body)
        assert answer.status_code == expect, answer.text
        if answer.is_success:
            self.id = UUID(answer.json()["id"])
        return answer.json()

    def answer_challenge(self, client: TestClient) -> dict[str, str]:
        """Get a challenge and return the body that answers it."""
        asked = client.post(f"/v1/sites/{self.id}/challenges")
        assert asked.status_code == 201, asked.text
        nonce = asked.json()["nonce"]
        payload = {"nonce": nonce, "site_id": str(self.id)}
        return {"nonce": nonce, "signature": self.sign(Purpose.CHALLENGE, payload)}

    def log_in(self, client: TestClient, *, expect: int = 201) -> dict[str, Any]:
        """Get an access token over HTTP."""
        answer = client.post(f"/v1/sites/{self.id}/tokens", json=self.answer_challenge(client))
        assert answer.status_code == expect, answer.text
        if answer.is_success:
            self.token = answer.json()["token"]
        return answer.json()


def now() -> datetime:
    return datetime.now(UTC)


def make_person(
    transactions: Transactions, email: str = "ada@example.org", *, is_admin: bool = False
) -> Person:
    """Make an account with PASSWORD and log it in."""
    request = wire.UserCreate.model_validate(
        {"email": email, "name": "Somebody", "password": PASSWORD, "is_admin": is_admin}
    )
    with transactions.begin("make_person") as tx:
        user = users.create(tx, request, password_hash=PASSWORD_HASH, now=now())
        login = sessions.StoredLogin(user.id, PASSWORD_HASH, user.email)
        session = sessions.open_session(tx, login, now=now(), hours=1)
    return Person(user.id, user.email, session.token)


def principal_of(transactions: Transactions, person: Person) -> Principal:
    """Return the person as a service sees them."""
    with transactions.begin("principal_of") as tx:
        return sessions.authenticate(tx, person.token, now=now())


def make_federation(
    client: TestClient, owner: Person, slug: str = "nordic", *, requires_approval: bool = True
) -> str:
    """Found a federation and return its slug."""
    body = {"slug": slug, "name": slug.title(), "requires_approval": requires_approval}
    answer = client.post("/v1/federations", json=body, headers=owner.headers)
    assert answer.status_code == 201, answer.text
    return slug


def add_member(
    client: TestClient, owner: Person, federation: str, person: Person, role: Role
) -> None:
    """Give a person a role."""
    answer = client.put(
        f"/v1/federations/{federation}/members/{person.id}",
        json={"role": role},
        headers=owner.headers,
    )
    assert answer.status_code == 200, answer.text


def make_invitation(
    client: TestClient, owner: Person, federation: str, **changes: Any
) -> dict[str, Any]:
    """Make an invitation; its secret is under "token"."""
    answer = client.post(
        f"/v1/federations/{federation}/invitations", json=changes, headers=owner.headers
    )
    assert answer.status_code == 201, answer.text
    return answer.json()


def make_site(
    client: TestClient, owner: Person, federation: str, name: str = "oslo"
) -> SiteIdentity:
    """Enroll a site, approve it where the federation wants that, and give it a token."""
    site = SiteIdentity(name)
    view = site.enroll(client, make_invitation(client, owner, federation)["token"])
    if view["state"] == SiteState.PENDING:
        change_site(client, owner, federation, site, "approve")
    site.log_in(client)
    return site


def change_site(
    client: TestClient,
    person: Person,
    federation: str,
    site: SiteIdentity,
    change: str,
    *,
    reason: str = "",
    expect: int = 200,
) -> dict[str, Any]:
    """Approve, suspend, reinstate or revoke a site."""
    answer = client.post(
        f"/v1/federations/{federation}/sites/{site.id}/{change}",
        json={"reason": reason},
        headers=person.headers,
    )
    assert answer.status_code == expect, answer.text
    return answer.json()


def events_of(transactions: Transactions, federation_id: UUID) -> list[tuple[str, dict[str, Any]]]:
    """Return the federation's events, oldest first."""
    with transactions.begin("events_of") as tx:
        found = events.after(tx.session, federation_id, last_id=0, run_id=None, limit=1000)
        return [(event.kind, event.data) for event in found]


def wait_until_one_waits(transactions: Transactions) -> None:
    """Return once a transaction of this database waits for another's lock."""
    query = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    pause = threading.Event()
    deadline = time.monotonic() + DEADLINE_SECONDS
    while True:
        with transactions.begin("look") as tx:
            if tx.session.connection().exec_driver_sql(query).scalar_one() == 1:
                return
        assert time.monotonic() < deadline, "nobody waits"
        pause.wait(0.01)
