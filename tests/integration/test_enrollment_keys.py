"""A site's key at work: challenges, access tokens, a new key."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from app.db import sites as rows
from app.domain.errors import NotAuthenticatedError
from app.services import enrollment
from app.services.secret_tokens import hash_secret
from app.services.transactions import Transactions
from hansa_core import signing, wire
from hansa_core.signing import Purpose
from tests.identities import (
    Person,
    SiteIdentity,
    events_of,
    make_federation,
    make_invitation,
    make_person,
    make_site,
    now,
)


@pytest.fixture
def owner(transactions: Transactions) -> Person:
    return make_person(transactions, "owner@example.org")


@pytest.fixture
def federation(client: TestClient, owner: Person) -> str:
    return make_federation(client, owner)


@pytest.fixture
def site(client: TestClient, owner: Person, federation: str) -> SiteIdentity:
    return make_site(client, owner, federation)


def rotation(site: SiteIdentity, successor: SiteIdentity) -> dict[str, Any]:
    payload = {"new_public_key": successor.public, "site_id": str(site.id)}
    return {
        "new_public_key": successor.public,
        "signature_by_old": site.sign(Purpose.ROTATE, payload),
        "signature_by_new": successor.sign(Purpose.ROTATE, payload),
    }


def test_a_challenge_is_good_once(client: TestClient, site: SiteIdentity) -> None:
    answer = site.answer_challenge(client)
    path = f"/v1/sites/{site.id}/tokens"
    assert client.post(path, json=answer).status_code == 201
    again = client.post(path, json=answer)
    assert (again.status_code, again.json()["slug"]) == (401, "not-authenticated")


def test_a_wrong_signature_costs_the_challenge(client: TestClient, site: SiteIdentity) -> None:
    answer = site.answer_challenge(client)
    path = f"/v1/sites/{site.id}/tokens"
    payload = {"nonce": answer["nonce"], "site_id": str(site.id)}
    impostor = {**answer, "signature": SiteIdentity("x").sign(Purpose.CHALLENGE, payload)}
    refused = client.post(path, json=impostor)
    assert (refused.status_code, refused.json()["slug"]) == (403, "signature-refused")
    assert client.post(path, json=answer).status_code == 401


def test_a_signature_for_another_purpose_or_site_is_refused(
    client: TestClient, owner: Person, federation: str, site: SiteIdentity
) -> None:
    path = f"/v1/sites/{site.id}/tokens"
    answer = site.answer_challenge(client)
    payload = {"nonce": answer["nonce"], "site_id": str(site.id)}
    wrong_purpose = {**answer, "signature": site.sign(Purpose.ENROLL, payload)}
    assert client.post(path, json=wrong_purpose).json()["slug"] == "signature-refused"
    other = make_site(client, owner, federation, "bergen")
    assert client.post(path, json=other.answer_challenge(client)).status_code == 401


def test_a_challenge_expires(transactions: Transactions, site: SiteIdentity) -> None:
    with transactions.begin("challenge") as tx:
        challenge = enrollment.create_challenge(tx, site.id, now=now())
    with transactions.begin("take") as tx:
        taken = enrollment.take_challenge(tx, site.id, challenge.nonce, now=challenge.expires_at)
    with pytest.raises(NotAuthenticatedError):
        enrollment.prove_challenge(taken, "AAAA")


def test_an_unknown_site_gets_no_challenge(client: TestClient) -> None:
    assert client.post(f"/v1/sites/{uuid4()}/challenges").status_code == 404


def test_a_site_token_expires(
    client: TestClient, transactions: Transactions, site: SiteIdentity
) -> None:
    expires_at = wire.SiteToken.model_validate(site.log_in(client)).expires_at
    with (
        transactions.begin("authenticate") as tx,
        pytest.raises(NotAuthenticatedError, match="challenge"),
    ):
        enrollment.authenticate(tx, site.token, now=expires_at, allow_pending=True)


def test_a_new_key_replaces_the_old_one_and_its_tokens(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    site = make_site(client, owner, federation)
    successor = SiteIdentity("oslo", id=site.id)
    body = rotation(site, successor)
    rotated = client.post("/v1/site/keys", json=body, headers=site.headers)
    assert rotated.status_code == 200
    assert rotated.json()["id"] == str(site.id)
    assert rotated.json()["fingerprint"] == signing.fingerprint(
        signing.public_key(successor.private)
    )
    assert client.get("/v1/site", headers=site.headers).status_code == 401
    assert site.log_in(client, expect=403)["slug"] == "signature-refused"
    successor.log_in(client)
    assert client.get("/v1/site", headers=successor.headers).json() == rotated.json()
    events = events_of(transactions, UUID(rotated.json()["federation_id"]))
    assert events[-1][0] == "site.key_rotated"
    assert events[-1][1]["fingerprint"] == rotated.json()["fingerprint"]
    token = make_invitation(client, owner, federation)["token"]
    assert site.enroll(client, token, expect=409)["slug"] == "already-exists"  # retired for ever
    back = rotation(successor, site)
    returned = client.post("/v1/site/keys", json=back, headers=successor.headers)
    assert (returned.status_code, returned.json()["slug"]) == (409, "already-exists")
    assert client.get("/v1/site", headers=successor.headers).status_code == 200  # rolled back


def test_a_rotation_needs_both_signatures_and_a_new_key(
    client: TestClient, site: SiteIdentity
) -> None:
    successor, stranger = SiteIdentity("oslo"), SiteIdentity("oslo")
    good = rotation(site, successor)
    by_stranger = rotation(SiteIdentity("oslo", private=stranger.private, id=site.id), successor)
    not_held = {**good, "signature_by_new": good["signature_by_old"]}
    for forged in (by_stranger, not_held):
        answer = client.post("/v1/site/keys", json=forged, headers=site.headers)
        assert (answer.status_code, answer.json()["slug"]) == (403, "signature-refused")
    same = client.post("/v1/site/keys", json=rotation(site, site), headers=site.headers)
    assert same.status_code == 422
    assert client.get("/v1/site", headers=site.headers).status_code == 200


def test_a_race_of_rotations_has_one_winner(
    client: TestClient, transactions: Transactions, site: SiteIdentity
) -> None:
    with transactions.begin("authenticate") as tx:
        principal = enrollment.authenticate(tx, site.token, now=now(), allow_pending=False)
    proven = [
        enrollment.prove_rotation(
            principal,
            wire.KeyRotation.model_validate(rotation(site, SiteIdentity("oslo"))),
        )
        for _ in range(4)
    ]
    barrier = Barrier(len(proven))

    def rotate(one: enrollment.ProvenRotation) -> bool:
        barrier.wait(10)
        try:
            with transactions.begin("rotate") as tx:
                enrollment.rotate_key(tx, principal, one, now=now())
        except NotAuthenticatedError:
            return False
        return True

    with ThreadPoolExecutor(len(proven)) as pool:
        assert sum(pool.map(rotate, proven)) == 1
    assert client.get("/v1/site", headers=site.headers).status_code == 401


def test_a_token_asked_for_before_a_rotation_is_not_given_after_it(
    transactions: Transactions, site: SiteIdentity
) -> None:
    with transactions.begin("challenge") as tx:
        nonce = enrollment.create_challenge(tx, site.id, now=now()).nonce
    with transactions.begin("take") as tx:
        taken = enrollment.take_challenge(tx, site.id, nonce, now=now())
    payload = {"nonce": nonce, "site_id": str(site.id)}
    proven = enrollment.prove_challenge(taken, site.sign(Purpose.CHALLENGE, payload))
    with transactions.begin("authenticate") as tx:
        principal = enrollment.authenticate(tx, site.token, now=now(), allow_pending=False)
    request = wire.KeyRotation.model_validate(rotation(site, SiteIdentity("oslo")))
    rotated = enrollment.prove_rotation(principal, request)
    with transactions.begin("rotate") as tx:
        enrollment.rotate_key(tx, principal, rotated, now=now())
    with transactions.begin("issue") as tx, pytest.raises(NotAuthenticatedError, match="replaced"):
        enrollment.issue_token(tx, proven, now=now(), minutes=15)


def test_a_token_of_a_retired_key_opens_nothing(
    client: TestClient, transactions: Transactions, site: SiteIdentity
) -> None:
    with transactions.begin("authenticate") as tx:
        key_id = enrollment.authenticate(tx, site.token, now=now(), allow_pending=False).key_id
    body = rotation(site, SiteIdentity("oslo"))
    assert client.post("/v1/site/keys", json=body, headers=site.headers).status_code == 200
    with transactions.begin("write_by_hand") as tx:
        rows.insert_token(
            tx.session,
            site_id=site.id,
            key_id=key_id,
            token_hash=hash_secret(site.token),
            now=now(),
            expires_at=now() + timedelta(minutes=5),
        )
    assert client.get("/v1/site", headers=site.headers).status_code == 401


def test_no_secret_of_a_site_is_stored(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    invitation = make_invitation(client, owner, federation)["token"]
    site = SiteIdentity("oslo")
    site.enroll(client, invitation)
    site.log_in(client)
    nonce = client.post(f"/v1/sites/{site.id}/challenges").json()["nonce"]
    with transactions.begin("dump") as tx:
        connection = tx.session.connection()
        dump = "".join(
            row
            for table in ("invitations", "sites", "site_challenges", "site_tokens", "events")
            for row in connection.exec_driver_sql(f"SELECT t::text FROM {table} t").scalars()  # noqa: S608
        )
    assert "oslo" in dump
    for secret in (invitation, site.token, nonce):
        assert secret not in dump
        assert secret.encode().hex() not in dump
