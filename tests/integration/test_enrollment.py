"""A site's life with the hub: enrolment, challenge, token, suspension, new key."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from uuid import UUID, uuid4

import pytest
from starlette.testclient import TestClient

from app.domain.errors import AlreadyExistsError, InvitationError, NotAuthenticatedError
from app.services import enrollment
from app.services.transactions import Transactions
from hansa_core import signing, wire
from hansa_core.signing import Purpose
from tests.identities import (
    Person,
    SiteIdentity,
    change_site,
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


def uses(client: TestClient, owner: Person, federation: str) -> list[int]:
    path = f"/v1/federations/{federation}/invitations"
    return [item["uses"] for item in client.get(path, headers=owner.headers).json()["items"]]


def post_enrollment(client: TestClient, signed: wire.SignedEnrollment) -> tuple[int, str]:
    answer = client.post("/v1/enrollments", json=signed.model_dump(mode="json"))
    return answer.status_code, answer.json().get("slug", "")


def rotation(site: SiteIdentity, successor: SiteIdentity) -> dict[str, Any]:
    payload = {"new_public_key": successor.public, "site_id": str(site.id)}
    return {
        "new_public_key": successor.public,
        "signature_by_old": site.sign(Purpose.ROTATE, payload),
        "signature_by_new": successor.sign(Purpose.ROTATE, payload),
    }


def test_a_site_comes_in_pending_is_approved_and_may_work(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    site = SiteIdentity("oslo")
    invitation = make_invitation(client, owner, federation, labels={"country": "no"})
    view = site.enroll(client, invitation["token"])
    assert view["state"] == "pending"
    assert view["federation_slug"] == federation
    assert view["fingerprint"] == signing.fingerprint(signing.public_key(site.private))
    site.log_in(client)
    assert site.token.startswith("hx_")
    assert client.get("/v1/site", headers=site.headers).json() == view
    blocked = client.post("/v1/site/keys", json=rotation(site, site), headers=site.headers)
    assert (blocked.status_code, blocked.json()["slug"]) == (403, "site-not-active")
    assert "'oslo' is pending" in blocked.json()["detail"]

    approved = change_site(client, owner, federation, site, "approve")
    assert approved["state"] == "active"
    assert approved["labels"] == {"country": "no"}
    assert approved["hardware"]["cpus"] == 4
    assert (approved["online"], approved["last_seen_at"]) == (False, None)
    assert client.get("/v1/site", headers=site.headers).json()["state"] == "active"
    kinds = [kind for kind, _ in events_of(transactions, UUID(view["federation_id"]))]
    assert kinds == ["federation.created", "invitation.created", "site.enrolled", "site.approved"]


def test_a_site_is_active_at_once_where_no_approval_is_required(
    client: TestClient, owner: Person
) -> None:
    open_one = make_federation(client, owner, "open", requires_approval=False)
    view = SiteIdentity("oslo").enroll(client, make_invitation(client, owner, open_one)["token"])
    assert view["state"] == "active"


def test_a_lost_answer_is_repeated_without_a_second_use(
    client: TestClient, owner: Person, federation: str
) -> None:
    site = SiteIdentity("oslo")
    invitation = make_invitation(client, owner, federation)
    first = site.enroll(client, invitation["token"])
    assert site.enroll(client, invitation["token"], expect=200) == first
    path = f"/v1/federations/{federation}/invitations/{invitation['id']}"
    assert client.delete(path, headers=owner.headers).status_code == 204
    assert site.enroll(client, invitation["token"], expect=200) == first  # even revoked
    assert uses(client, owner, federation) == [1]


def test_a_key_and_a_name_belong_together(
    client: TestClient, owner: Person, federation: str
) -> None:
    token = make_invitation(client, owner, federation, max_uses=5)["token"]
    site = SiteIdentity("oslo")
    site.enroll(client, token)
    renamed = SiteIdentity("bergen", private=site.private)
    impostor = SiteIdentity("oslo")
    for other in (renamed, impostor):
        answer = other.enroll(client, token, expect=409)
        assert answer["slug"] == "already-exists"
    assert uses(client, owner, federation) == [1]


def test_a_key_of_another_federation_is_refused(
    client: TestClient, owner: Person, federation: str
) -> None:
    site = SiteIdentity("oslo")
    site.enroll(client, make_invitation(client, owner, federation)["token"])
    baltic = make_federation(client, owner, "baltic")
    token = make_invitation(client, owner, baltic)["token"]
    assert site.enroll(client, token, expect=409)["slug"] == "already-exists"


def test_an_unusable_invitation_is_refused(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    used = make_invitation(client, owner, federation)
    SiteIdentity("first").enroll(client, used["token"])
    revoked = make_invitation(client, owner, federation)
    path = f"/v1/federations/{federation}/invitations/{revoked['id']}"
    client.delete(path, headers=owner.headers)
    for token in (used["token"], revoked["token"], "hi_" + "A" * 43):
        answer = SiteIdentity("late").enroll(client, token, expect=403)
        assert answer["slug"] == "invitation-refused"
    brief = make_invitation(client, owner, federation, expires_hours=1)
    proven = enrollment.prove_enrollment(SiteIdentity("late").signed_enrollment(brief["token"]))
    expires_at = wire.Invitation.model_validate(brief).expires_at
    with transactions.begin("late") as tx, pytest.raises(InvitationError, match="expired"):
        enrollment.enroll(tx, proven, now=expires_at)


def test_an_enrolment_needs_the_keys_signature_over_all_of_it(
    client: TestClient, owner: Person, federation: str
) -> None:
    token = make_invitation(client, owner, federation)["token"]
    good = SiteIdentity("oslo").signed_enrollment(token)
    stolen = good.model_copy(
        update={"enrollment": good.enrollment.model_copy(update={"site_name": "bergen"})}
    )
    other_key = good.model_copy(
        update={
            "enrollment": good.enrollment.model_copy(
                update={"public_key": SiteIdentity("x").public}
            )
        }
    )
    garbage = good.model_copy(update={"signature": "!!"})
    short = good.model_copy(update={"signature": "AAAA"})
    for forged in (stolen, other_key, garbage, short):
        assert post_enrollment(client, forged) == (403, "signature-refused")
    bad_key = good.model_copy(
        update={"enrollment": good.enrollment.model_copy(update={"public_key": "AAAA"})}
    )
    assert post_enrollment(client, bad_key) == (422, "invalid-request")
    assert uses(client, owner, federation) == [0]
    assert post_enrollment(client, good)[0] == 201


def test_a_race_for_the_last_use_has_one_winner(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    token = make_invitation(client, owner, federation, max_uses=2)["token"]
    contenders = [
        enrollment.prove_enrollment(SiteIdentity(f"site-{number}").signed_enrollment(token))
        for number in range(8)
    ]
    barrier = Barrier(len(contenders))

    def redeem(proven: enrollment.ProvenEnrollment) -> bool:
        barrier.wait(10)
        try:
            with transactions.begin("enroll") as tx:
                enrollment.enroll(tx, proven, now=now())
        except InvitationError:
            return False
        return True

    with ThreadPoolExecutor(len(contenders)) as pool:
        assert sum(pool.map(redeem, contenders)) == 2
    assert uses(client, owner, federation) == [2]
    sites = client.get(f"/v1/federations/{federation}/sites", headers=owner.headers).json()["items"]
    assert len(sites) == 2


def test_a_race_of_repeats_makes_one_site(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    token = make_invitation(client, owner, federation, max_uses=5)["token"]
    proven = enrollment.prove_enrollment(SiteIdentity("oslo").signed_enrollment(token))
    barrier = Barrier(6)

    def redeem(_: int) -> tuple[wire.SiteView, bool]:
        barrier.wait(10)
        with transactions.begin("enroll") as tx:
            return enrollment.enroll(tx, proven, now=now())

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(redeem, range(6)))
    assert len({view.id for view, _ in answers}) == 1
    assert [created for _, created in answers].count(True) == 1
    assert uses(client, owner, federation) == [1]


@pytest.mark.parametrize("same_key", [True, False], ids=["one key", "one name"])
def test_a_race_by_two_invitations_makes_one_site(
    client: TestClient, transactions: Transactions, owner: Person, federation: str, same_key: bool
) -> None:
    identity = SiteIdentity("oslo")
    contenders = [
        SiteIdentity(f"oslo-{number}", private=identity.private)
        if same_key
        else SiteIdentity("oslo")
        for number in range(4)
    ]
    proven = [
        enrollment.prove_enrollment(
            site.signed_enrollment(make_invitation(client, owner, federation)["token"])
        )
        for site in contenders
    ]
    barrier = Barrier(len(proven))

    def redeem(one: enrollment.ProvenEnrollment) -> bool:
        barrier.wait(10)
        try:
            with transactions.begin("enroll") as tx:
                enrollment.enroll(tx, one, now=now())
        except AlreadyExistsError:
            return False
        return True

    with ThreadPoolExecutor(len(proven)) as pool:
        assert sum(pool.map(redeem, proven)) == 1
    assert sorted(uses(client, owner, federation)) == [0, 0, 0, 1]


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


def test_suspension_and_reinstatement_hold_from_the_next_request_on(
    client: TestClient, owner: Person, federation: str, site: SiteIdentity
) -> None:
    assert client.get("/v1/site", headers=site.headers).status_code == 200
    change_site(client, owner, federation, site, "suspend", reason="disk check")
    refused = client.get("/v1/site", headers=site.headers)
    assert (refused.status_code, refused.json()["slug"]) == (403, "site-not-active")
    assert refused.json()["detail"] == "site 'oslo' is suspended: disk check"
    login = site.log_in(client, expect=403)
    assert (login["slug"], login["detail"]) == (
        "site-not-active",
        "site 'oslo' is suspended: disk check",
    )
    reinstated = change_site(client, owner, federation, site, "reinstate")
    assert (reinstated["state"], reinstated["state_reason"]) == ("active", None)
    assert client.get("/v1/site", headers=site.headers).status_code == 200


def test_revocation_is_at_once_and_for_ever(
    client: TestClient, transactions: Transactions, owner: Person, federation: str
) -> None:
    site = make_site(client, owner, federation)
    for _ in range(2):
        revoked = change_site(client, owner, federation, site, "revoke", reason="left")
        assert (revoked["state"], revoked["state_reason"]) == ("revoked", "left")
    refused = client.get("/v1/site", headers=site.headers)
    assert refused.json()["detail"] == "site 'oslo' is revoked: left"
    for change in ("approve", "reinstate", "suspend"):
        answer = change_site(client, owner, federation, site, change, expect=409)
        assert answer["slug"] == "illegal-transition"
    token = make_invitation(client, owner, federation)["token"]
    assert site.enroll(client, token, expect=200)["state"] == "revoked"
    events = events_of(transactions, UUID(revoked["federation_id"]))
    assert [kind for kind, _ in events].count("site.revoked") == 1


def test_approval_is_for_pending_and_reinstatement_for_suspended_sites(
    client: TestClient, owner: Person, federation: str
) -> None:
    site = SiteIdentity("oslo")
    site.enroll(client, make_invitation(client, owner, federation)["token"])
    answer = change_site(client, owner, federation, site, "reinstate", expect=409)
    assert (
        answer["detail"] == "cannot reinstate site 'oslo': it is pending, only a suspended one can"
    )
    change_site(client, owner, federation, site, "approve")
    assert change_site(client, owner, federation, site, "approve")["state"] == "active"
    change_site(client, owner, federation, site, "suspend")
    change_site(client, owner, federation, site, "approve", expect=409)


def test_a_site_of_another_federation_is_not_found(
    client: TestClient, owner: Person, federation: str, site: SiteIdentity
) -> None:
    baltic = make_federation(client, owner, "baltic")
    path = f"/v1/federations/{baltic}/sites/{site.id}"
    assert client.get(path, headers=owner.headers).status_code == 404
    change_site(client, owner, baltic, site, "revoke", expect=404)
    labels = client.put(f"{path}/labels", json={"labels": {}}, headers=owner.headers)
    assert labels.status_code == 404
    assert client.get("/v1/site", headers=site.headers).json()["federation_slug"] == federation


def test_labels_are_replaced(
    client: TestClient, owner: Person, federation: str, site: SiteIdentity
) -> None:
    path = f"/v1/federations/{federation}/sites/{site.id}"
    body = {"labels": {"scanner": "3t"}}
    put = client.put(f"{path}/labels", json=body, headers=owner.headers)
    assert put.json()["labels"] == {"scanner": "3t"}
    assert client.get(path, headers=owner.headers).json() == put.json()


def test_a_persons_token_opens_nothing_for_sites_and_the_reverse(
    client: TestClient, owner: Person, site: SiteIdentity
) -> None:
    assert client.get("/v1/site", headers=owner.headers).status_code == 401
    assert client.get("/v1/session", headers=site.headers).status_code == 401


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
