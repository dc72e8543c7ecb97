"""How a site comes in, and how the people of its federation govern it."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from app.domain.errors import AlreadyExistsError, InvitationError
from app.services import enrollment
from app.services.transactions import Transactions
from hansa_core import signing, wire
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
    blocked = client.post("/v1/site/keys", json={}, headers=site.headers)
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
    revoked = change_site(client, owner, federation, site, "revoke", reason="left")
    assert (revoked["state"], revoked["state_reason"]) == ("revoked", "left")
    assert change_site(client, owner, federation, site, "revoke", reason="again") == revoked
    refused = client.get("/v1/site", headers=site.headers)
    assert refused.json()["slug"] == "site-revoked"
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
    told = client.get(path, headers=owner.headers).json()
    assert {**told, "record": None} == put.json()  # what it did is told of it alone


def test_a_persons_token_opens_nothing_for_sites_and_the_reverse(
    client: TestClient, owner: Person, site: SiteIdentity
) -> None:
    assert client.get("/v1/site", headers=owner.headers).status_code == 401
    assert client.get("/v1/session", headers=site.headers).status_code == 401
