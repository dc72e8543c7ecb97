"""Every route by which a person changes something leaves an entry that says who, and from where.

A new route fails here until it has a line in LEAVES, or one in QUIET with the reason.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from httpx2 import Response

from app.domain.alerts import AlertKind
from app.main import ROUTERS, create_app
from app.services import alerts
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core.audit import Entry
from hansa_core.chunks import CONTENT_DIGEST, Checksum
from hansa_core.states import Role
from tests.audits import entries_of, sealed_of
from tests.factories import Federation, a_federation, a_model, a_plan, sites_online
from tests.identities import PASSWORD, Person, make_person, now
from tests.tensors import a_delta, digest_of, encode

ADDRESS = "203.0.113.7"
SITE = "oslo"
CHANNEL = {"kind": "webhook", "target": "https://hooks.example.org/hansa"}


@dataclass(frozen=True, slots=True)
class World:
    """A hub with a federation in use, and its owner, who is an admin too."""

    federation: Federation
    owner: Person
    site_id: UUID
    model_digest: str
    lengths: dict[UUID | None, int] = field(default_factory=dict[UUID | None, int])

    def send(self, method: str, path: str, body: Any = None, **options: Any) -> Response:
        """Send a request as the owner, after noting how long the chains are."""
        for chain in (None, self.federation.id):
            self.lengths[chain] = len(sealed_of(self.federation.transactions, chain))
        return self.federation.client.request(
            method, f"/v1{path}", json=body, headers=self.owner.headers, **options
        )

    def entered(self, chain: UUID | None) -> list[Entry]:
        """Return what the last request left in a chain."""
        return entries_of(self.federation.transactions, chain)[self.lengths[chain] :]

    def here(self, method: str, path: str, body: Any = None) -> Response:
        """Send a request below the federation as the owner."""
        return self.send(method, f"/federations/{self.federation.slug}{path}", body)

    def made(self, path: str, body: Any) -> str:
        """Make something below the federation and return its id."""
        return self.federation.post(path, body)["id"]


@dataclass(frozen=True, slots=True)
class Deed:
    """How a route is used, and what it leaves."""

    action: str
    do: Callable[[World], Response]
    of_hub: bool = False  # in the hub's chain, not the federation's


def _upload(world: World) -> Response:
    data = encode(a_delta(1))
    path = f"/federations/{world.federation.slug}/artifacts/{digest_of(data)}"
    return world.send("PUT", path, content=data)


def _upload_in_chunks(world: World) -> Response:
    data = encode(a_delta(1))
    path = f"/federations/{world.federation.slug}/uploads/{digest_of(data)}"
    world.send("PUT", path, {"size": len(data), "chunk_bytes": 2**20}).raise_for_status()
    checksum = Checksum()
    checksum.update(data)
    world.federation.client.put(
        f"/v1{path}/chunks/0",
        content=data,
        headers=world.owner.headers | {CONTENT_DIGEST: checksum.field()},
    ).raise_for_status()
    return world.send("POST", f"{path}/complete")


def _draft(world: World) -> str:
    return world.made("/runs", {"plan": a_plan(), "start": False})


def _queued(world: World) -> str:
    return world.made("/runs", {"plan": a_plan()})


def _paused(world: World) -> str:
    run_id = _queued(world)
    world.here("POST", f"/runs/{run_id}/pause", {}).raise_for_status()
    return run_id


def _receipt(world: World, *, held: bool = False) -> str:
    """Return the path of the receipt of a run's end."""
    path = f"/runs/{_queued(world)}"
    world.here("POST", f"{path}/cancel").raise_for_status()
    (receipt,) = world.federation.get(f"{path}/receipts")["items"]
    path = f"{path}/receipts/{receipt['digest']}"
    if held:
        world.here("PUT", f"{path}/hold", {"reason": "a paper"}).raise_for_status()
    return path


def _alert(world: World) -> str:
    federation = world.federation
    with federation.transactions.begin("raise_alert") as tx:
        alerts.raise_alert(
            tx,
            AlertKind.SITE_OFFLINE,
            federation_id=federation.id,
            subject=SITE,
            message="silent",
            now=now(),
        )
    (alert,) = federation.get("/alerts")["items"]
    return alert["id"]


def _member(world: World) -> str:
    person = make_person(world.federation.transactions, "bo@example.org")
    world.here("PUT", f"/members/{person.id}", {"role": Role.AUDITOR}).raise_for_status()
    return str(person.id)


def _token(world: World) -> str:
    return world.send("POST", "/tokens", {"name": "ci", "scopes": ["read"]}).json()["id"]


LEAVES: dict[str, Deed] = {
    "log_in": Deed(
        "session.opened",
        lambda w: w.send("POST", "/session", {"email": w.owner.email, "password": PASSWORD}),
        of_hub=True,
    ),
    "log_in_by_cookie": Deed(
        "session.opened",
        lambda w: w.send("POST", "/session/cookie", {"email": w.owner.email, "password": PASSWORD}),
        of_hub=True,
    ),
    "log_out": Deed("session.closed", lambda w: w.send("DELETE", "/session"), of_hub=True),
    "create_token": Deed(
        "token.created",
        lambda w: w.send("POST", "/tokens", {"name": "ci", "scopes": ["read"]}),
        of_hub=True,
    ),
    "revoke_token": Deed(
        "token.revoked", lambda w: w.send("DELETE", f"/tokens/{_token(w)}"), of_hub=True
    ),
    "create_user": Deed(
        "user.created",
        lambda w: w.send(
            "POST", "/users", {"email": "bo@example.org", "name": "Bo", "password": PASSWORD}
        ),
        of_hub=True,
    ),
    "change_user": Deed(
        "user.changed",
        lambda w: w.send("PATCH", f"/users/{w.owner.id}", {"name": "Countess"}),
        of_hub=True,
    ),
    "change_federation": Deed(
        "federation.changed", lambda w: w.here("PATCH", "", {"description": "hearts"})
    ),
    "put_member": Deed(
        "member.changed",
        lambda w: w.here(
            "PUT",
            f"/members/{make_person(w.federation.transactions, 'bo@example.org').id}",
            {"role": Role.AUDITOR},
        ),
    ),
    "remove_member": Deed("member.removed", lambda w: w.here("DELETE", f"/members/{_member(w)}")),
    "create_invitation": Deed("invitation.created", lambda w: w.here("POST", "/invitations", {})),
    "revoke_invitation": Deed(
        "invitation.revoked",
        lambda w: w.here("DELETE", f"/invitations/{w.made('/invitations', {})}"),
    ),
    "change_site": Deed(
        "site.suspended", lambda w: w.here("POST", f"/sites/{w.site_id}/suspend", {"reason": "x"})
    ),
    "put_site_labels": Deed(
        "site.labelled",
        lambda w: w.here("PUT", f"/sites/{w.site_id}/labels", {"labels": {"a": "b"}}),
    ),
    "upload_artifact": Deed("artifact.uploaded", _upload),
    "complete_artifact_upload": Deed("artifact.uploaded", _upload_in_chunks),
    "create_model": Deed("model.created", lambda w: w.here("POST", "/models", {"name": "second"})),
    "create_checkpoint": Deed(
        "checkpoint.created",
        lambda w: w.here("POST", "/models/tumor/checkpoints", {"digest": w.model_digest}),
    ),
    "create_run": Deed("run.created", lambda w: w.here("POST", "/runs", {"plan": a_plan()})),
    "start_run": Deed("run.queued", lambda w: w.here("POST", f"/runs/{_draft(w)}/start")),
    "pause_run": Deed(
        "run.paused",
        lambda w: w.here("POST", f"/runs/{_queued(w)}/pause", {}),
    ),
    "resume_run": Deed("run.queued", lambda w: w.here("POST", f"/runs/{_paused(w)}/resume")),
    "fork_run": Deed(
        "run.created",
        lambda w: w.here("POST", f"/runs/{_draft(w)}/fork", {"name": "forked", "start": False}),
    ),
    "hold_receipt": Deed(
        "receipt.held",
        lambda w: w.here("PUT", f"{_receipt(w)}/hold", {"reason": "a paper"}),
    ),
    "release_receipt": Deed(
        "receipt.released", lambda w: w.here("DELETE", f"{_receipt(w, held=True)}/hold")
    ),
    "acknowledge_alert": Deed(
        "alert.acknowledged", lambda w: w.here("POST", f"/alerts/{_alert(w)}/acknowledge")
    ),
    "create_channel": Deed("channel.created", lambda w: w.here("POST", "/channels", CHANNEL)),
    "change_channel": Deed(
        "channel.changed",
        lambda w: w.here("PATCH", f"/channels/{w.made('/channels', CHANNEL)}", {"enabled": False}),
    ),
    "remove_channel": Deed(
        "channel.removed",
        lambda w: w.here("DELETE", f"/channels/{w.made('/channels', CHANNEL)}"),
    ),
    "cancel_run": Deed("run.cancelled", lambda w: w.here("POST", f"/runs/{_draft(w)}/cancel")),
}

QUIET = {
    "create_federation": "its entry is the first of a chain that is not there before; see below",
    "preview_retention": "changes nothing; a POST for its body",
    "preview_run": "changes nothing; a POST for its body",
    "try_channel": "changes nothing: sends a test to a channel whose making is entered",
    # sites: what they answer is signed, and stored with its signature
    "enroll": "the site's own; tests/integration/test_audit_log.py",
    "rotate_key": "the site's own; tests/integration/test_audit_log.py",
    "create_challenge": "changes nothing that lasts, and needs no key",
    "issue_site_token": "every few minutes from every site",
    "claim_task": "a site's daily traffic",
    "renew_lease": "a site's daily traffic",
    "upload_update": "a site's daily traffic",
    "open_update_upload": "a site's daily traffic",
    "upload_update_chunk": "a site's daily traffic",
    "complete_update_upload": "a site's daily traffic",
    "open_artifact_upload": "stores nothing; completing it is entered",
    "upload_artifact_chunk": "forgotten unless the upload is completed, which is entered",
    "submit_update": "a site's daily traffic; the signed manifest is kept",
    "submit_evaluation": "a site's daily traffic; the signed report is kept",
    "report_failure": "a site's daily traffic",
    "claim_duties": "changes nothing but when the site was seen last",
    "answer_duty": "a site's daily traffic; the signed answer is kept",
    "refuse_duty": "a site's daily traffic; an alert tells of it",
}


def changing_routes() -> dict[str, str]:
    """Return every route that is not only for reading, by name."""
    found = (route for router in ROUTERS for route in router.routes)
    routes = [route for route in found if isinstance(route, APIRoute)]
    methods = {route.name: (route.methods or set()) - {"GET", "HEAD"} for route in routes}
    return {
        route.name: f"{', '.join(sorted(methods[route.name]))} {route.path}"
        for route in routes
        if methods[route.name]
    }


@pytest.fixture
def client(settings: Settings) -> Generator[TestClient]:
    """A client that comes from ADDRESS."""
    app = create_app(settings)
    with TestClient(app, raise_server_exceptions=False, client=(ADDRESS, 40000)) as opened:
        yield opened


@pytest.fixture
def world(client: TestClient, transactions: Transactions, settings: Settings) -> World:
    federation = a_federation(client, transactions, settings)
    with transactions.begin("make_admin") as tx:
        tx.session.connection().exec_driver_sql("UPDATE users SET is_admin = true")
    site, *_ = sites_online(federation, SITE)
    base = a_model(federation)
    return World(federation, federation.owner, site.id, base.digest)


def test_every_changing_route_is_accounted_for() -> None:
    known = set(LEAVES) | set(QUIET)
    assert set(changing_routes()) - known == set(), "add a Deed, or a reason to be quiet"
    assert known - set(changing_routes()) == set(), "there is no such route any more"
    assert not set(LEAVES) & set(QUIET)


@pytest.mark.parametrize("name", sorted(LEAVES))
def test_a_changing_route_leaves_an_entry(world: World, name: str) -> None:
    deed = LEAVES[name]
    answer = deed.do(world)
    assert answer.is_success, answer.text
    entries = world.entered(None if deed.of_hub else world.federation.id)
    assert deed.action in {entry.action for entry in entries}, changing_routes()[name]
    for actor in (entry.actor for entry in entries):
        assert (actor.kind, actor.name, actor.id) == ("person", world.owner.email, world.owner.id)
        assert actor.address == ADDRESS
        assert (actor.token_id is None) == (name in {"log_in", "log_in_by_cookie"})


def test_founding_a_federation_starts_its_chain(world: World) -> None:
    made = world.send("POST", "/federations", {"slug": "baltic", "name": "Baltic"})
    (entry,) = entries_of(world.federation.transactions, UUID(made.json()["id"]))
    assert (entry.number, entry.action, entry.previous) == (1, "federation.created", None)
    assert (entry.actor.name, entry.actor.address) == (world.owner.email, ADDRESS)
