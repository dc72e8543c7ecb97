"""The audit log over HTTP and from the command line: who and where, for whom, and its check."""

import json
import sys
from collections.abc import Generator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi.testclient import TestClient

from app.api.v1 import audit as routes
from app.main import create_app
from app.services import audit, users
from app.services.principals import HUB
from app.services.transactions import Transactions
from app.settings import Settings
from hansa.cli.main import main
from hansa.client import HansaClient
from hansa_core import signing
from hansa_core.audit import read_line, verify_chain
from hansa_core.signing import Purpose
from hansa_core.states import Role, Scope
from tests.audits import actions_of, entries_of, sealed_of, tamper
from tests.factories import Federation, a_federation, a_model
from tests.identities import (
    PASSWORD,
    Person,
    SiteIdentity,
    add_member,
    change_site,
    make_invitation,
    make_person,
    make_site,
)
from tests.serving import hub_on_a_socket
from tests.unit.client.cutting_proxy import CuttingProxy


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def admin(transactions: Transactions) -> Person:
    return make_person(transactions, "root@example.org", is_admin=True)


@pytest.fixture
def address(settings: Settings) -> Generator[str]:
    """The address of a hub on a real socket, served as `hansa-hub serve` does."""
    with hub_on_a_socket(settings) as served:
        yield served


def listed(client: TestClient, person: Person, path: str, **params: Any) -> list[dict[str, Any]]:
    """Return all entries of a listing, page by page."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        sent = {**params, **({"cursor": cursor} if cursor else {})}
        answer = client.get(path, params=sent, headers=person.headers)
        assert answer.status_code == 200, answer.text
        items += answer.json()["items"]
        cursor = answer.json()["next_cursor"]
        if cursor is None:
            return items


def log_in(client: TestClient, email: str, password: str) -> int:
    return client.post("/v1/session", json={"email": email, "password": password}).status_code


# Who, and where


def test_a_trusted_proxys_word_is_taken_for_the_address(
    address: str, transactions: Transactions
) -> None:
    ada = make_person(transactions)
    with httpx2.Client(base_url=address) as far:
        for forwarded in ("198.51.100.4", "2001:db8::1"):
            answer = far.post(
                "/v1/session",
                json={"email": ada.email, "password": PASSWORD},
                headers={"X-Forwarded-For": forwarded},
            )
            assert answer.status_code == 201
        far.post("/v1/session", json={"email": ada.email, "password": PASSWORD})
    found = [entry.actor.address for entry in entries_of(transactions, None)]
    assert found == ["198.51.100.4", "2001:db8::1", "127.0.0.1"]


def test_an_overlong_forwarded_address_is_cut(
    settings: Settings, transactions: Transactions
) -> None:
    with TestClient(create_app(settings), client=("x" * 5000, 1)) as far:
        assert log_in(far, "nobody@example.org", "no") == 401
    (entry,) = entries_of(transactions, None)
    assert entry.actor.address == "x" * 64


def test_logins_leave_who_came_in_and_who_did_not(
    client: TestClient, transactions: Transactions, admin: Person
) -> None:
    ada = make_person(transactions)
    assert log_in(client, ada.email, PASSWORD) == 201
    assert log_in(client, ada.email, "guess") == 401
    assert log_in(client, "my-secret@typed-here", "guess") == 401
    body = {"disabled": True}
    assert client.patch(f"/v1/users/{ada.id}", json=body, headers=admin.headers).is_success
    assert log_in(client, ada.email, PASSWORD) == 401
    entries = entries_of(transactions, None)
    assert [(entry.action, entry.actor.name, entry.actor.id) for entry in entries] == [
        ("session.opened", ada.email, ada.id),
        ("session.refused", ada.email, ada.id),
        ("session.refused", "unknown", None),
        ("user.changed", admin.email, admin.id),
        ("session.refused", ada.email, ada.id),
    ]
    assert entries[3].data["changes"] == {"disabled": True}
    stored = "".join(sealed.body for sealed in sealed_of(transactions, None))
    for secret in ("guess", "my-secret", PASSWORD, ada.token):
        assert secret not in stored


def test_guessing_passwords_cannot_fill_the_log(
    client: TestClient, transactions: Transactions, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(audit, "REFUSALS", 3)
    for _ in range(5):
        assert log_in(client, "nobody@example.org", "guess") == 401
    assert actions_of(transactions, None) == ["session.refused"] * 3
    ada = make_person(transactions)
    assert log_in(client, ada.email, PASSWORD) == 201
    assert actions_of(transactions, None)[-1] == "session.opened"


def test_sites_leave_their_enrolment_and_their_new_key(
    client: TestClient, transactions: Transactions, federation: Federation
) -> None:
    owner, slug = federation.owner, federation.slug
    site = SiteIdentity("oslo")
    invitation = make_invitation(client, owner, slug)["token"]
    site.enroll(client, invitation)
    site.enroll(client, invitation, expect=200)  # a repeat is no second enrolment
    site.log_in(client)
    new = SiteIdentity("oslo")
    payload = {"new_public_key": new.public, "site_id": str(site.id)}
    request = {
        "new_public_key": new.public,
        "signature_by_old": site.sign(Purpose.ROTATE, payload),
        "signature_by_new": new.sign(Purpose.ROTATE, payload),
    }
    assert client.post("/v1/site/keys", json=request, headers=site.headers).is_success
    entries = entries_of(transactions, federation.id)
    _, enrolled, rotated = entries
    assert [entry.action for entry in entries] == [
        "invitation.created",
        "site.enrolled",
        "site.key_rotated",
    ]
    assert (enrolled.actor.kind, enrolled.actor.name) == ("site", "oslo")
    assert (enrolled.actor.id, enrolled.data["site_id"]) == (None, str(site.id))
    assert (rotated.actor.kind, rotated.actor.id) == ("site", site.id)
    assert rotated.actor.address == enrolled.actor.address == "testclient"
    assert rotated.data["fingerprint"] == signing.fingerprint(signing.public_key(new.private))


def test_whoever_takes_a_model_is_entered(
    client: TestClient, transactions: Transactions, federation: Federation
) -> None:
    base = a_model(federation)
    ada = make_person(transactions)
    add_member(client, federation.owner, federation.slug, ada, Role.RESEARCHER)
    top = f"/v1/federations/{federation.slug}"
    before = len(sealed_of(transactions, federation.id))
    content = f"{top}/checkpoints/{base.id}/content"
    blob = f"{top}/artifacts/{base.digest}"
    assert client.get(content, headers=ada.headers).status_code == 200
    ranged = ada.headers | {"Range": "bytes=0-9"}
    assert client.get(blob, headers=ranged).status_code == 206
    # Nothing of the model in these:
    assert client.head(content, headers=ada.headers).status_code == 200
    had = ada.headers | {"If-None-Match": f'"{base.digest}"'}
    assert client.get(content, headers=had).status_code == 304
    beyond = ada.headers | {"Range": "bytes=99999999-"}
    assert client.get(content, headers=beyond).status_code == 416
    taken = entries_of(transactions, federation.id)[before:]
    assert [(entry.action, entry.actor.name, entry.data) for entry in taken] == [
        (
            "checkpoint.downloaded",
            ada.email,
            {"checkpoint_id": str(base.id), "digest": base.digest},
        ),
        ("artifact.downloaded", ada.email, {"digest": base.digest, "range": "bytes=0-9"}),
    ]


def test_a_repeated_request_is_entered_once(
    transactions: Transactions, federation: Federation
) -> None:
    for _ in range(2):
        federation.post("/models", {"name": "tumor"}, key="one")
    assert actions_of(transactions, federation.id) == ["model.created"]


def test_a_refused_request_leaves_no_entry(
    client: TestClient, transactions: Transactions, federation: Federation
) -> None:
    federation.post("/models", {"name": "tumor"})
    federation.post("/models", {"name": "tumor"}, expect=409)
    assert actions_of(transactions, federation.id) == ["model.created"]


# Reading it


def test_owners_and_auditors_read_a_federations_log_and_nobody_else(
    client: TestClient, transactions: Transactions, federation: Federation, admin: Person
) -> None:
    people = {role: make_person(transactions, f"{role}@example.org") for role in Role}
    for role, person in people.items():
        add_member(client, federation.owner, federation.slug, person, role)
    outsider = make_person(transactions, "eve@example.org")
    may = {Role.OWNER, Role.AUDITOR}
    for path in ("", "/export", "/head"):
        url = f"/v1/federations/{federation.slug}/audit{path}"
        for role, person in people.items():
            assert client.get(url, headers=person.headers).is_success == (role in may), role
        assert client.get(url, headers=admin.headers).status_code == 200
        assert client.get(url, headers=outsider.headers).status_code == 404
        assert client.get(url).status_code == 401


def test_admins_read_the_hubs_log_with_a_token_that_only_reads(
    client: TestClient, federation: Federation, admin: Person
) -> None:
    def token(*scopes: Scope) -> dict[str, str]:
        body = {"name": "siem", "scopes": list(scopes)}
        made = client.post("/v1/tokens", json=body, headers=admin.headers).json()
        return {"Authorization": f"Bearer {made['token']}"}

    reader, other = token(Scope.READ), token(Scope.RUNS)
    for path in ("/v1/audit", "/v1/audit/export", "/v1/audit/head"):
        assert client.get(path, headers=reader).status_code == 200
        assert client.get(path, headers=other).status_code == 403
        assert client.get(path, headers=federation.owner.headers).status_code == 403


def test_entries_are_listed_newest_first_and_filtered(
    client: TestClient, transactions: Transactions, federation: Federation
) -> None:
    owner, slug = federation.owner, federation.slug
    ada = make_person(transactions)
    add_member(client, owner, slug, ada, Role.OWNER)
    site = make_site(client, owner, slug)
    change_site(client, ada, slug, site, "suspend", reason="audit")
    path = f"/v1/federations/{slug}/audit"
    everything = listed(client, owner, path, limit=2)
    assert [item["number"] for item in everything] == list(range(len(everything), 0, -1))
    assert [item["action"] for item in everything] == [
        "site.suspended",
        "site.enrolled",
        "invitation.created",
        "member.changed",
    ]
    stored = sealed_of(transactions, federation.id)
    assert [item["digest"] for item in reversed(everything)] == [s.digest for s in stored]
    assert everything[-1]["previous"] is None
    assert everything[0]["previous"] == everything[1]["digest"]

    def numbers(**params: Any) -> list[int]:
        return [item["number"] for item in listed(client, owner, path, limit=1, **params)]

    assert numbers(actor=ada.email) == [4]
    assert numbers(actor="oslo") == [3]
    assert numbers(action="site.") == [4, 3]
    assert numbers(action="site.s") == [4]
    assert numbers(action="s%") == []  # a prefix, no pattern
    third = everything[1]["at"]
    assert numbers(since=third) == [4, 3]
    assert numbers(until=third) == [2, 1]
    later = (datetime.fromisoformat(third) + timedelta(days=1)).isoformat()
    assert numbers(since=later) == []
    naive = client.get(path, params={"since": "2026-01-01T00:00:00"}, headers=owner.headers)
    assert (naive.status_code, naive.json()["slug"]) == (422, "invalid-request")


def test_an_export_is_the_whole_chain_with_its_own_entry(
    client: TestClient,
    transactions: Transactions,
    federation: Federation,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit, "EXPORT_PAGE", 2)
    for name in ("a", "b", "c", "d"):
        federation.post("/models", {"name": name})
    path = f"/v1/federations/{federation.slug}/audit"
    assert federation.get("/audit/head")["number"] == 4
    answer = client.get(f"{path}/export", headers=federation.owner.headers)
    assert answer.headers["content-type"].startswith(routes.MEDIA_TYPE)
    sealed = [read_line(line) for line in answer.content.splitlines()]
    chain = verify_chain(sealed)
    assert chain is not None
    assert chain.federation_id == federation.id
    assert sealed == sealed_of(transactions, federation.id)
    assert actions_of(transactions, federation.id)[-1] == "audit.exported"
    head = federation.get("/audit/head")
    assert (head["number"], head["digest"]) == (chain.head.number, chain.head.digest)
    rest = client.get(
        f"{path}/export", params={"after": chain.head.number}, headers=federation.owner.headers
    )
    (only,) = [read_line(line) for line in rest.content.splitlines()]
    found = verify_chain([only], kept=[chain.head])
    assert found is not None
    assert found.head.number == chain.head.number + 1


def test_a_cut_export_goes_on_where_it_was_cut(
    address: str, federation: Federation, transactions: Transactions
) -> None:
    for number in range(12):
        federation.post("/models", {"name": f"model-{number}"})
    before = sealed_of(transactions, federation.id)
    with CuttingProxy(int(address.rpartition(":")[2])) as proxy:
        proxy.cut_answers_after += [2000, 4000]
        with HansaClient(proxy.url, federation.owner.token, sleep=lambda _: None) as hub:
            came = list(hub.audit_log(federation.slug).export())
    assert proxy.cuts == 2
    assert came[: len(before)] == before
    assert verify_chain(came) is not None
    assert actions_of(transactions, federation.id)[12:] == ["audit.exported"] * 3
    assert [entry.data for entry in entries_of(transactions, federation.id)[12:]] != [
        {"after": 0}
    ] * 3


def test_a_chain_without_entries_has_no_head(client: TestClient, admin: Person) -> None:
    answer = client.get("/v1/audit/head", headers=admin.headers)
    assert answer.json() == {"number": 0, "digest": None}


# The command line


@pytest.fixture
def hansa(
    address: str, federation: Federation, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Any:
    """Run `hansa` as the federation's owner and return its exit code."""
    monkeypatch.setenv("HANSA_CONFIG", str(tmp_path / "config.json"))
    monkeypatch.setenv("HANSA_URL", address)
    monkeypatch.setenv("HANSA_TOKEN", federation.owner.token)
    monkeypatch.setenv("HANSA_FEDERATION", federation.slug)
    monkeypatch.delenv("HANSA_DEBUG", raising=False)

    def run(*arguments: str) -> int:
        monkeypatch.setattr(sys, "argv", ["hansa", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        code = caught.value.code
        return code if isinstance(code, int) else 0

    return run


def test_the_command_line_lists_exports_and_verifies(
    hansa: Any,
    federation: Federation,
    transactions: Transactions,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("a", "b", "c"):
        federation.post("/models", {"name": name})
    assert hansa("audit", "list", "--action", "model.", "--limit", "2") == 0
    told = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in told] == ["NUMBER", "3", "2"]
    assert federation.owner.email in told[1]
    assert "testclient" in told[1]
    assert "model=c" in told[1]

    assert hansa("audit", "list", "--json") == 0
    assert [item["number"] for item in json.loads(capsys.readouterr().out)] == [3, 2, 1]

    file = tmp_path / "audit.ndjson"
    assert hansa("audit", "export", str(file)) == 0
    capsys.readouterr()
    assert hansa("audit", "verify", str(file)) == 0
    head = capsys.readouterr().out.splitlines()[-1].removeprefix("head ")
    sealed = sealed_of(transactions, federation.id)
    assert head == f"4:{sealed[3].digest}"
    assert hansa("audit", "verify", "--head", head) == 0  # live, and grown meanwhile
    assert capsys.readouterr().out.splitlines()[-1].startswith("head 5:")

    rest = tmp_path / "rest.ndjson"
    assert hansa("audit", "export", str(rest), "--after", "4") == 0
    assert hansa("audit", "verify", str(rest)) == 1
    assert hansa("audit", "verify", str(rest), "--head", head) == 0


def test_the_command_line_says_which_entry_was_changed(
    hansa: Any,
    federation: Federation,
    transactions: Transactions,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("a", "b", "c"):
        federation.post("/models", {"name": name})
    head = sealed_of(transactions, federation.id)[2]
    file = tmp_path / "audit.ndjson"
    assert hansa("audit", "export", str(file)) == 0
    file.write_bytes(file.read_bytes().replace(rb"\"model\":\"b\"", rb"\"model\":\"B\"", 1))
    assert hansa("audit", "verify", str(file)) == 1
    assert "entry 2 was changed" in capsys.readouterr().err

    tamper(transactions, "DELETE FROM audit_entries WHERE number >= 3")
    assert hansa("audit", "verify") == 0  # the log alone cannot tell
    assert hansa("audit", "verify", "--head", f"3:{head.digest}") == 1
    assert "entry 3 has the digest" in capsys.readouterr().err
    assert hansa("audit", "verify", "--head", "nonsense") == 1
    assert "no head" in capsys.readouterr().err


def test_a_cut_or_foreign_file_is_refused_with_its_line(
    hansa: Any, federation: Federation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    federation.post("/models", {"name": "a"})
    file = tmp_path / "audit.ndjson"
    assert hansa("audit", "export", str(file)) == 0
    whole = file.read_bytes()
    file.write_bytes(whole[:-20])
    assert hansa("audit", "verify", str(file)) == 1
    assert "line 2: it was cut" in capsys.readouterr().err
    file.write_bytes(b"{}\n" + whole)
    assert hansa("audit", "verify", str(file)) == 1
    assert "line 1: no exported entry" in capsys.readouterr().err
    file.write_bytes(b"")
    assert hansa("audit", "verify", str(file)) == 1
    assert "no entries" in capsys.readouterr().err


def test_the_hubs_own_command_line_is_the_hub(transactions: Transactions) -> None:
    with transactions.begin("create_admin", by=HUB) as tx:
        made = users.ensure_admin(tx, email="root@example.org", name="Root", password=PASSWORD)
    (entry,) = entries_of(transactions, None)
    assert (entry.action, entry.actor.kind, entry.actor.name) == ("user.made_admin", "hub", "hub")
    assert entry.data == {"user_id": str(made.id), "email": "root@example.org"}
