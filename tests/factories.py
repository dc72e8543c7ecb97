"""A federation under test: people, sites that speak the real protocol, and a worker's hands.

Sites go through REST with their own key and signatures. `work_off` does what the Celery tasks of
worker/tasks/rounds.py do, with the same services, and takes the clock as an argument.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from fastapi.testclient import TestClient
from httpx2 import Client, Response
from numpy.typing import NDArray
from pydantic_core import to_jsonable_python

from app.db import artifacts as artifact_rows
from app.domain.clock import utc_now
from app.domain.errors import UnusableUpdatesError
from app.doorbell import AGGREGATE_ROUND, AGREE_ROUND, STEP_RUN, Job
from app.services import aggregation, enrollment, federations, invitations, rounds, sites
from app.services.principals import SitePrincipal
from app.services.secure import driving, signing
from app.services.transactions import Transactions, Tx
from app.settings import Settings
from app.storage import open_artifacts
from app.storage.artifacts import Artifacts
from hansa_core import wire
from hansa_core.signing import Purpose
from tests.identities import Person, SiteIdentity, change_site, make_person, principal_of
from tests.tensors import BASE, Tensors, decode, digest_of, encode

LEFT_OUT = {"groups", "scalars", "parts"}  # of a manifest where they are empty
ONLINE_FOR = timedelta(seconds=120)
LEASE_FOR = timedelta(seconds=60)
WHOLE = 2**40  # bytes: no sum is split
AGGREGATION_LEASE = timedelta(seconds=30)


@dataclass(frozen=True, slots=True)
class Federation:
    """A federation with its owner, and the hub's parts that tests reach into."""

    client: TestClient
    transactions: Transactions
    artifacts: Artifacts
    owner: Person
    slug: str
    id: UUID

    def get(self, path: str, *, expect: int = 200, **params: Any) -> Any:
        """Read below the federation, as its owner."""
        answer = self.client.get(
            f"/v1/federations/{self.slug}{path}", params=params, headers=self.owner.headers
        )
        assert answer.status_code == expect, answer.text
        return answer.json()

    def post(
        self, path: str, body: Any = None, *, expect: int = 201, key: str | None = None
    ) -> Any:
        """Change something below the federation, as its owner."""
        headers = self.owner.headers | ({} if key is None else {"Idempotency-Key": key})
        answer = self.client.post(f"/v1/federations/{self.slug}{path}", json=body, headers=headers)
        assert answer.status_code == expect, answer.text
        return answer.json()

    def run(self, run_id: UUID) -> wire.Run:
        return wire.Run.model_validate(self.get(f"/runs/{run_id}"))

    def round(self, run_id: UUID, number: int) -> wire.RoundDetail:
        return wire.RoundDetail.model_validate(self.get(f"/runs/{run_id}/rounds/{number}"))

    def checkpoint(self, checkpoint_id: UUID | None) -> wire.Checkpoint:
        return wire.Checkpoint.model_validate(self.get(f"/checkpoints/{checkpoint_id}"))


@dataclass(frozen=True, slots=True)
class ActiveSite:
    """A site that may work: its key, its token, and the protocol."""

    client: Client  # a TestClient, or one with a real socket
    identity: SiteIdentity

    @property
    def name(self) -> str:
        return self.identity.name

    @property
    def id(self) -> UUID:
        return self.identity.id

    def poll(
        self, *, wait_seconds: float = 0, features: Sequence[str] = tuple(wire.Feature)
    ) -> Response:
        """Ask for work."""
        return self.client.post(
            "/v1/tasks/claim",
            params={"wait_seconds": wait_seconds},
            json={"sdk_version": "0.1.0", "features": list(features)},
            headers=self.identity.headers,
        )

    def claim(self) -> wire.Task:
        """Lease the task that is there."""
        answer = self.poll()
        assert answer.status_code == 200, answer.text or "no task"
        return wire.Task.model_validate(answer.json())

    def download(self, task: wire.Task) -> Tensors:
        """Return the task's base checkpoint."""
        answer = self.client.get(f"/v1/tasks/{task.id}/checkpoint", headers=self.identity.headers)
        assert answer.status_code == 200, answer.text
        assert digest_of(answer.content) == task.checkpoint.digest
        return decode(answer.content)

    def upload(
        self,
        task: wire.Task,
        data: bytes,
        *,
        digest: str | None = None,
        lease: UUID | None = None,
        part: str | None = None,
    ) -> Response:
        """Send an update's bytes, or those of one of its parts."""
        return self.client.put(
            f"/v1/tasks/{task.id}/artifacts/{digest or digest_of(data)}",
            params={} if part is None else {"part": part},
            content=data,
            headers=self.identity.headers | {"X-Hansa-Lease": str(lease or task.lease.token)},
        )

    def manifest(self, task: wire.Task, data: bytes, **changes: Any) -> dict[str, Any]:
        """Return an update manifest as JSON, with `changes` on top."""
        honest = wire.UpdateManifest(
            task_id=task.id,
            run_id=task.run_id,
            site_id=self.id,
            round_number=task.round_number,
            checkpoint_digest=task.checkpoint.digest,
            digest=digest_of(data),
            size=len(data),
            num_examples=10,
        )
        told = honest.model_dump(mode="json") | to_jsonable_python(changes)
        return {name: it for name, it in told.items() if it or name not in LEFT_OUT}

    def submit(
        self,
        task: wire.Task,
        data: bytes,
        *,
        lease: UUID | None = None,
        signature: str | None = None,
        **changes: Any,
    ) -> Response:
        """Sign and send the manifest of an update."""
        manifest = self.manifest(task, data, **changes)
        body = {
            "lease_token": str(lease or task.lease.token),
            "manifest": manifest,
            "signature": signature or self.identity.sign(Purpose.UPDATE, manifest),
        }
        return self.client.put(
            f"/v1/tasks/{task.id}/update", json=body, headers=self.identity.headers
        )

    def answer(
        self,
        task: wire.Task,
        tensors: Tensors,
        parts: Mapping[str, Tensors] | None = None,
        **changes: Any,
    ) -> None:
        """Upload an update with its parts and submit it."""
        data = encode(tensors)
        for name, part in (parts or {}).items():
            file = encode(part)
            assert self.upload(task, file, part=name).status_code in {200, 201}
            told = wire.UpdatePart(digest=digest_of(file), size=len(file))
            changes.setdefault("parts", {})[name] = told
        for answer in (self.upload(task, data), self.submit(task, data, **changes)):
            assert answer.status_code in {200, 201}, answer.text

    def evaluate(self, task: wire.Task, metrics: dict[str, float], num_examples: int) -> Response:
        """Sign and send an evaluation report."""
        report = wire.EvaluationReport(
            task_id=task.id,
            run_id=task.run_id,
            site_id=self.id,
            round_number=task.round_number,
            checkpoint_digest=task.checkpoint.digest,
            evaluation=wire.Evaluation(num_examples=num_examples, metrics=metrics),
        ).model_dump(mode="json")
        body = {
            "lease_token": str(task.lease.token),
            "report": report,
            "signature": self.identity.sign(Purpose.EVALUATION, report),
        }
        return self.client.put(
            f"/v1/tasks/{task.id}/evaluation", json=body, headers=self.identity.headers
        )

    def fail(self, task: wire.Task, error: str, traceback: str = "") -> Response:
        """Report that the task cannot be done."""
        body = {"lease_token": str(task.lease.token), "error": error, "traceback": traceback}
        return self.client.post(
            f"/v1/tasks/{task.id}/failure", json=body, headers=self.identity.headers
        )

    def beat(self, task: wire.Task, *, lease: UUID | None = None) -> Response:
        """Renew the lease."""
        body = {
            "lease_token": str(lease or task.lease.token),
            "progress": {"phase": "training", "fraction": 0.5},
        }
        return self.client.post(
            f"/v1/tasks/{task.id}/heartbeat", json=body, headers=self.identity.headers
        )

    def principal(self, transactions: Transactions) -> SitePrincipal:
        """Return the site as a service sees it."""
        with transactions.begin("principal") as tx:
            return enrollment.authenticate(
                tx, self.identity.token, now=utc_now(), allow_pending=False
            )


def a_federation(
    client: TestClient, transactions: Transactions, settings: Settings, slug: str = "nordic"
) -> Federation:
    """Found a federation whose sites need no approval."""
    owner = make_person(transactions, f"owner@{slug}.example")
    principal = principal_of(transactions, owner)
    request = wire.FederationCreate(slug=slug, name=slug.title(), requires_approval=False)
    with transactions.begin("a_federation") as tx:
        made = federations.create(tx, principal, request, now=utc_now())
    return Federation(client, transactions, open_artifacts(settings), owner, slug, made.id)


def an_active_site(federation: Federation, name: str) -> ActiveSite:
    """Enroll a site and give it a token, in one transaction."""
    identity = SiteIdentity(name)
    principal = principal_of(federation.transactions, federation.owner)
    now = utc_now()
    with federation.transactions.begin("an_active_site") as tx:
        membership = federations.access(tx, principal, federation.slug)
        invitation = invitations.create(
            tx, membership, wire.InvitationCreate(), public_url="http://hub", now=now
        )
        proven = enrollment.prove_enrollment(identity.signed_enrollment(invitation.token))
        identity.id = enrollment.enroll(tx, proven, now=now)[0].id
        nonce = enrollment.create_challenge(tx, identity.id, now=now).nonce
        signature = identity.sign(Purpose.CHALLENGE, {"nonce": nonce, "site_id": str(identity.id)})
        taken = enrollment.take_challenge(tx, identity.id, nonce, now=now)
        answered = enrollment.prove_challenge(taken, signature)
        identity.token = enrollment.issue_token(tx, answered, now=now, minutes=15).token
    return ActiveSite(federation.client, identity)


def sites_online(federation: Federation, *names: str) -> list[ActiveSite]:
    """Enroll sites and note that each has just been seen."""
    made = [an_active_site(federation, name) for name in names]
    with federation.transactions.begin("sites_online") as tx:
        for site in made:
            assert sites.seen(tx, site.id, utc_now(), "", None, online_for=ONLINE_FOR)
    return made


def change_state(
    federation: Federation, site: ActiveSite, change: str, *, reason: str = ""
) -> None:
    """Suspend, reinstate or revoke a site."""
    change_site(
        federation.client, federation.owner, federation.slug, site.identity, change, reason=reason
    )


def a_model(
    federation: Federation, tensors: Mapping[str, NDArray[Any]] = BASE, name: str = "tumor"
) -> wire.Checkpoint:
    """Make a model with an uploaded base checkpoint, and return that."""
    data = encode(tensors)
    federation.post("/models", {"name": name})
    answer = federation.client.put(
        f"/v1/federations/{federation.slug}/artifacts/{digest_of(data)}",
        content=data,
        headers=federation.owner.headers,
    )
    assert answer.status_code in {200, 201}, answer.text
    made = federation.post(f"/models/{name}/checkpoints", {"digest": digest_of(data)})
    return wire.Checkpoint.model_validate(made)


def a_plan(**changes: Any) -> dict[str, Any]:
    """Return a plan of one round with two sites and no evaluation, with `changes` on top."""
    quiet = {"every": 0, "final": False}
    return {
        "name": "first",
        "model": "tumor",
        "rounds": 1,
        "cohort": {"min_sites": 2},
        "deadlines": {"round_seconds": 30},  # short of ONLINE_FOR and of a lease
        "evaluation": quiet,
        **changes,
    }


def a_run(federation: Federation, **plan: Any) -> wire.Run:
    """Create and start a run of a plan."""
    return wire.Run.model_validate(federation.post("/runs", {"plan": a_plan(**plan)}))


def work_off(federation: Federation, *, now: datetime | None = None) -> None:
    """Play the workers until no run of the hub moves any more."""
    moved = True
    while moved:
        moved = False
        with federation.transactions.begin("sweep") as tx:
            queue = deque(Job(STEP_RUN, run_id) for run_id in rounds.due(tx, now=now or utc_now()))
        while queue:
            job = queue.popleft()
            steps = {
                STEP_RUN: step_run,
                AGREE_ROUND: agree_round,
                AGGREGATE_ROUND: aggregate_round,
            }
            done = steps[job.task](federation, job.subject, now=now)
            queue.extend(job for tx in done for job in tx.jobs)
            moved = moved or any(tx.events for tx in done)


def step_run(federation: Federation, run_id: UUID, *, now: datetime | None = None) -> list[Tx]:
    """Do what the worker's task of that name does; return its transactions."""
    with federation.transactions.begin("step_run") as tx:
        rounds.step(tx, run_id, now=now or utc_now(), online_for=ONLINE_FOR)
    return [tx]


def agree_round(federation: Federation, round_id: UUID, *, now: datetime | None = None) -> list[Tx]:
    """Do what the worker's task of that name does; return its transactions."""
    with federation.transactions.begin("lease") as tx:
        leased = signing.lease(tx, round_id, now=now or utc_now(), duration=AGGREGATION_LEASE)
    if leased is None:
        return []
    found = signing.agree(leased, federation.artifacts)
    with federation.transactions.begin("propose") as tx:
        rounds.propose(tx, leased, found, now=now or utc_now(), online_for=ONLINE_FOR)
    return [tx]


def aggregate_round(
    federation: Federation, round_id: UUID, *, now: datetime | None = None
) -> list[Tx]:
    """Do what the worker's task of that name does; return its transactions."""
    leased = lease_round(federation, round_id, now=now)
    if leased is None:
        return []
    try:
        if leased.secure is not None:
            opened = driving.advance(
                federation.transactions,
                federation.artifacts,
                leased,
                part_bytes=WHOLE,
                duration=AGGREGATION_LEASE,
            )
            if opened is None:
                return []
            leased = opened
        made = aggregation.aggregate(leased, federation.artifacts)
    except UnusableUpdatesError as error:
        with federation.transactions.begin("fail_aggregation") as tx:
            aggregation.fail(tx, leased, reason=str(error), now=now or utc_now())
        return [tx]
    with federation.transactions.begin("complete_aggregation") as tx:
        aggregation.complete(tx, leased, made, now=now or utc_now(), online_for=ONLINE_FOR)
    return [tx]


def lease_round(
    federation: Federation, round_id: UUID, *, now: datetime | None = None
) -> aggregation.AggregationLease | None:
    """Take a round's aggregation."""
    with federation.transactions.begin("lease") as tx:
        return aggregation.lease(tx, round_id, now=now or utc_now(), duration=AGGREGATION_LEASE)


def due(federation: Federation, *, now: datetime | None = None) -> list[UUID]:
    """Return the runs that a sweep would ring for."""
    with federation.transactions.begin("due") as tx:
        return rounds.due(tx, now=now or utc_now())


def checkpoints_of(federation: Federation, model_id: UUID) -> list[str]:
    """Return the digests of a model's checkpoints, oldest first."""
    with federation.transactions.begin("checkpoints") as tx:
        found = artifact_rows.list_checkpoints(tx.session, model_id, before=None, limit=1000)
        return [checkpoint.digest for checkpoint in reversed(found)]
