"""A small hub that speaks the site's and some of the people's contract over real HTTP.

It checks what a real hub checks (tokens, signatures, digests, leases), remembers what it was
told, and misbehaves on request.
"""

import asyncio
import contextlib
import hashlib
import json
import socket
import threading
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any
from uuid import UUID, uuid4

import uvicorn
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from hansa_core import wire
from hansa_core.canonical import canonical_json
from hansa_core.problems import SignatureError
from hansa_core.signing import Purpose, decode_base64, fingerprint, verify
from hansa_core.states import RoundKind, SiteState

DEADLINE = 30.0  # seconds that a test waits for anything
PASSWORD = "correct horse battery"  # noqa: S105 -- good for nothing but this
SESSION_TOKEN = "session-token"  # noqa: S105


@dataclass
class Fault:
    """What to answer instead, to the next `times` requests that match."""

    method: str
    path_part: str
    times: int
    answer: Callable[[], Response]


@dataclass
class Gate:
    """Holds a request until opened, and tells that it is there."""

    reached: threading.Event = field(default_factory=threading.Event)
    opened: threading.Event = field(default_factory=threading.Event)


def problem(status: int, slug: str, detail: str = "", **headers: str) -> JSONResponse:
    body = {
        "type": f"urn:hansa:problem:{slug}",
        "title": slug,
        "status": status,
        "detail": detail or slug,
        "slug": slug,
    }
    return JSONResponse(
        body, status, media_type="application/problem+json", headers=headers or None
    )


class FakeHub:
    def __init__(self) -> None:
        self.socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self.port: int = self.socket.getsockname()[1]
        self.site_id = uuid4()
        self.federation_id = uuid4()
        self.state = SiteState.ACTIVE
        self.state_reason: str | None = None
        self.public_key = b""
        self.site_name: str = ""
        self.accepted_invitations = {"invitation-1"}
        self.tokens: set[str] = set()
        self.nonces: set[str] = set()
        self.token_life = timedelta(minutes=15)
        self.clock_skew = timedelta(0)  # the hub's clock minus the site's
        self.tasks: deque[wire.Task] = deque()
        self.blobs: dict[str, bytes] = {}
        self.uploads: list[tuple[str, bytes]] = []  # deltas, in order of arrival
        self.parts: list[tuple[str, str, bytes]] = []  # (name, digest, content), likewise
        self.features: list[str] = []  # as the last claim says
        self.policy: wire.SitePolicy | None = None  # likewise
        self.updates: list[wire.SignedUpdate] = []
        self.evaluations: list[wire.SignedEvaluation] = []
        self.failures: list[wire.TaskFailure] = []
        self.beats: list[wire.Heartbeat] = []
        self.stop_reason: str | None = None  # told in heartbeat replies
        self.closing = False  # polls are answered at once
        self.faults: list[Fault] = []
        self.gates: dict[str, Gate] = {}  # by "METHOD part-of-path"
        self.requests: list[str] = []  # "METHOD path"
        self.ranges: list[str] = []
        self.heard = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def add_checkpoint(self, content: bytes) -> wire.CheckpointRef:
        digest = hashlib.sha256(content).hexdigest()
        self.blobs[digest] = content
        return wire.CheckpointRef(id=uuid4(), digest=digest, size=len(content))

    def add_task(
        self,
        checkpoint: wire.CheckpointRef,
        *,
        kind: RoundKind = RoundKind.TRAIN,
        training: dict[str, Any] | None = None,
        evaluate: bool = False,
        heartbeat_seconds: float = 20.0,
        round_number: int = 1,
        run_id: UUID | None = None,
        **beyond: Any,  # what most plans leave as it is: local_work, tensors, codec, ...
    ) -> wire.Task:
        now = datetime.now(UTC)
        task = wire.Task(
            id=uuid4(),
            kind=kind,
            federation_id=self.federation_id,
            run_id=run_id or uuid4(),
            run_name="run-1",
            site_id=self.site_id,
            round_number=round_number,
            rounds=3,
            seed=7,
            checkpoint=checkpoint,
            evaluate=evaluate,
            training=training or {},
            lease=wire.Lease(
                token=uuid4(),
                expires_at=now + timedelta(seconds=60),
                heartbeat_seconds=heartbeat_seconds,
            ),
            attempt=1,
            deadline_at=now + timedelta(hours=1),
            **beyond,
        )
        self.tasks.append(task)
        return task

    def fail(
        self, method: str, path_part: str, answer: Callable[[], Response], times: int = 1
    ) -> None:
        self.faults.append(Fault(method, path_part, times, answer))

    def gate(self, key: str) -> Gate:
        """Hold the next request whose "METHOD path" holds `key`; nothing comes of it.

        Whoever sent it is dead before the gate opens. Were it served then, it would race with what
        comes next.
        """
        gate = Gate()
        self.gates[key] = gate
        return gate

    def count(self, part: str) -> int:
        return sum(part in line for line in self.requests)

    def wait_for(self, seen: Callable[[], bool]) -> None:
        with self.heard:
            assert self.heard.wait_for(seen, DEADLINE), f"never seen; requests: {self.requests}"

    # Handlers

    async def enroll(self, request: Request) -> Response:
        message = wire.SignedEnrollment.model_validate_json(await request.body())
        public = decode_base64(message.enrollment.public_key)
        payload = canonical_json(message.enrollment.model_dump(mode="json"))
        verify(public, Purpose.ENROLL, payload, decode_base64(message.signature))
        name: str = message.enrollment.site_name
        again = public == self.public_key and name == self.site_name
        if not again:
            if message.enrollment.invitation not in self.accepted_invitations:
                return problem(403, "invitation-refused", "the invitation is used up")
            self.accepted_invitations.discard(message.enrollment.invitation)
        self.public_key, self.site_name = public, name
        return answer(self.view(), 200 if again else 201)

    def view(self) -> wire.SiteView:
        return wire.SiteView(
            id=self.site_id,
            federation_id=self.federation_id,
            federation_slug="heart",
            name=self.site_name,
            state=self.state,
            state_reason=self.state_reason,
            fingerprint=fingerprint(self.public_key),
        )

    async def challenge(self, request: Request) -> Response:
        if request.path_params["site_id"] != str(self.site_id):
            return problem(404, "not-found", "no such site")
        nonce = uuid4().hex
        self.nonces.add(nonce)
        expires = datetime.now(UTC) + timedelta(minutes=1)
        return answer(wire.Challenge(nonce=nonce, expires_at=expires), 201)

    async def token(self, request: Request) -> Response:
        message = wire.ChallengeAnswer.model_validate_json(await request.body())
        if message.nonce not in self.nonces:
            return problem(401, "not-authenticated", "unknown nonce")
        self.nonces.discard(message.nonce)
        payload = canonical_json({"nonce": message.nonce, "site_id": str(self.site_id)})
        try:
            verify(self.public_key, Purpose.CHALLENGE, payload, decode_base64(message.signature))
        except SignatureError:
            return problem(403, "signature-refused", "another key")
        if self.state in {SiteState.SUSPENDED, SiteState.REVOKED}:
            return self.refusal()
        token = uuid4().hex
        self.tokens.add(token)
        expires = datetime.now(UTC) + self.clock_skew + self.token_life
        return answer(wire.SiteToken(token=token, expires_at=expires), 201)

    def refusal(self) -> Response:
        slug = "site-revoked" if self.state is SiteState.REVOKED else "site-not-active"
        return problem(403, slug, f"the site is {self.state}")

    async def site(self, request: Request) -> Response:
        return answer(self.view())

    async def rotate(self, request: Request) -> Response:
        message = wire.KeyRotation.model_validate_json(await request.body())
        new = decode_base64(message.new_public_key)
        payload = canonical_json(
            {"new_public_key": message.new_public_key, "site_id": str(self.site_id)}
        )
        verify(self.public_key, Purpose.ROTATE, payload, decode_base64(message.signature_by_old))
        verify(new, Purpose.ROTATE, payload, decode_base64(message.signature_by_new))
        self.public_key = new
        self.tokens.clear()
        return answer(self.view())

    async def claim(self, request: Request) -> Response:
        claim = wire.ClaimRequest.model_validate_json(await request.body())
        self.features, self.policy = claim.features, claim.policy
        if self.state is not SiteState.ACTIVE:
            return self.refusal()
        wait = float(request.query_params.get("wait_seconds", 0))
        await self.waited_for(lambda: bool(self.tasks or self.open_duties()), wait)
        headers = {"X-Hansa-Duties": str(self.open_duties())}
        if not self.tasks:
            return Response(status_code=204, headers={"Retry-After": "1", **headers})
        given = answer(self.tasks[0])
        given.headers.update(headers)
        return given

    def duties_in_beats(self) -> int:
        """Return how many of them a heartbeat is told of."""
        return self.open_duties()

    async def waited_for(self, seen: Callable[[], bool], seconds: float) -> None:
        until = time.monotonic() + seconds
        while (  # noqa: ASYNC110 -- set by a thread
            not (seen() or self.closing) and time.monotonic() < until
        ):
            await asyncio.sleep(0.01)

    def open_duties(self) -> int:
        """Return how many duties of secure runs wait; see secure/hubs.py."""
        return 0

    async def heartbeat(self, request: Request) -> Response:
        beat = wire.Heartbeat.model_validate_json(await request.body())
        self.beats.append(beat)
        stop = self.stop_reason is not None
        expires = datetime.now(UTC) + timedelta(seconds=60)
        reply = wire.HeartbeatReply(
            expires_at=expires, stop=stop, reason=self.stop_reason, duties=self.duties_in_beats()
        )
        return answer(reply)

    async def checkpoint(self, request: Request) -> Response:
        task = self._task(request)
        if task is None:
            return problem(409, "task-closed")
        return ranged(self.blobs[task.checkpoint.digest], request, self.ranges)

    async def slot(self, request: Request) -> Response:
        task = self._task(request)
        name = request.path_params["name"]
        found = next((slot for slot in task.slots if slot.name == name), None) if task else None
        if found is None:
            return problem(404, "not-found", f"no slot {name}")
        return ranged(self.blobs[found.digest], request, self.ranges)

    async def artifact(self, request: Request) -> Response:
        body = await request.body()
        digest = hashlib.sha256(body).hexdigest()
        task = self._task(request)
        if task is None:
            return problem(409, "task-closed")
        if request.headers.get("X-Hansa-Lease") != str(task.lease.token):
            return problem(409, "lease-lost")
        if digest != request.path_params["digest"]:
            return problem(422, "digest-mismatch")
        part = request.query_params.get("part")
        if part is None:
            self.uploads.append((digest, body))
        else:
            self.parts.append((part, digest, body))
        return answer(wire.BlobReceipt(digest=digest, size=len(body)), 201)

    async def update(self, request: Request) -> Response:
        message = wire.SignedUpdate.model_validate_json(await request.body())
        payload = canonical_json(message.manifest.model_dump(mode="json"))
        verify(self.public_key, Purpose.UPDATE, payload, decode_base64(message.signature))
        if message.manifest.digest not in {digest for digest, _ in self.uploads}:
            return problem(404, "artifact-missing")
        stored = {(name, digest) for name, digest, _ in self.parts}
        if not {(name, it.digest) for name, it in message.manifest.parts.items()} <= stored:
            return problem(404, "artifact-missing")
        self.updates.append(message)
        return self._receipt(message.manifest.task_id, message.manifest.digest)

    async def evaluation(self, request: Request) -> Response:
        message = wire.SignedEvaluation.model_validate_json(await request.body())
        payload = canonical_json(message.report.model_dump(mode="json"))
        verify(self.public_key, Purpose.EVALUATION, payload, decode_base64(message.signature))
        self.evaluations.append(message)
        return self._receipt(message.report.task_id, hashlib.sha256(payload).hexdigest())

    async def failure(self, request: Request) -> Response:
        self.failures.append(wire.TaskFailure.model_validate_json(await request.body()))
        self._close(UUID(request.path_params["task_id"]))
        return Response(status_code=204)

    async def session(self, request: Request) -> Response:
        message = json.loads(await request.body())
        if message["password"] != PASSWORD:
            return problem(401, "not-authenticated", "email or password is wrong")
        self.tokens.add(SESSION_TOKEN)
        user = wire.User(
            id=uuid4(),
            email=message["email"],
            name="Ada",
            is_admin=True,
            created_at=datetime.now(UTC),
        )
        expires = datetime.now(UTC) + timedelta(hours=1)
        return answer(wire.Session(token=SESSION_TOKEN, expires_at=expires, user=user), 201)

    async def federations(self, request: Request) -> Response:
        # Three federations over two pages.
        made = [
            wire.Federation(
                id=uuid4(),
                slug=slug,
                name=slug,
                description="",
                requires_approval=True,
                created_at=datetime.now(UTC),
            )
            for slug in ("alpha", "beta", "gamma")
        ]
        if "cursor" in request.query_params:
            return answer(wire.Page[wire.Federation](items=made[2:]))
        return answer(wire.Page[wire.Federation](items=made[:2], next_cursor="more"))

    async def blob(self, request: Request) -> Response:
        body = await request.body()
        digest = hashlib.sha256(body).hexdigest()
        if digest != request.path_params["digest"]:
            return problem(422, "digest-mismatch")
        self.blobs[digest] = body
        return answer(wire.BlobReceipt(digest=digest, size=len(body)), 201)

    async def content(self, request: Request) -> Response:
        return ranged(self.blobs[request.path_params["digest"]], request, self.ranges)

    # Plumbing

    def _task(self, request: Request) -> wire.Task | None:
        return next(
            (task for task in self.tasks if str(task.id) == request.path_params["task_id"]), None
        )

    def _close(self, task_id: UUID) -> None:
        self.tasks = deque(task for task in self.tasks if task.id != task_id)

    def _receipt(self, task_id: UUID, digest: str) -> Response:
        self._close(task_id)
        received = datetime.now(UTC)
        return answer(wire.TaskReceipt(task_id=task_id, digest=digest, received_at=received), 201)

    def more_routes(self) -> list[tuple[str, Callable[[Request], Any], str]]:
        """Return what else is served: path, handler, method."""
        return []

    def app(self) -> Starlette:
        open_paths = ("/v1/enrollments", "/v1/sites/", "/v1/session", "/open/")

        def guarded(handler: Callable[[Request], Any]) -> Callable[[Request], Any]:
            async def handle(request: Request) -> Response:
                path, line = request.url.path, f"{request.method} {request.url.path}"
                with self.heard:
                    self.requests.append(line)
                    self.heard.notify_all()
                gate = next((key for key in self.gates if key in line), None)
                if gate is not None:
                    held = self.gates.pop(gate)
                    held.reached.set()
                    await asyncio.get_running_loop().run_in_executor(
                        None, held.opened.wait, DEADLINE
                    )
                    return problem(503, "unavailable", "this request was held and is dropped")
                for fault in self.faults:
                    if fault.times and fault.method == request.method and fault.path_part in path:
                        fault.times -= 1
                        return fault.answer()
                token = request.headers.get("Authorization", "").removeprefix("Bearer ")
                if not path.startswith(open_paths) and token not in self.tokens:
                    return problem(401, "not-authenticated", "no such token")
                try:
                    answered: Response = await handler(request)
                    answered.headers["Date"] = format_datetime(
                        datetime.now(UTC) + self.clock_skew, usegmt=True
                    )
                    return answered
                finally:
                    with self.heard:
                        self.heard.notify_all()

            return handle

        def route(path: str, handler: Callable[[Request], Any], method: str) -> Route:
            return Route(path, guarded(handler), methods=[method])

        return Starlette(
            routes=[
                route("/v1/enrollments", self.enroll, "POST"),
                route("/v1/sites/{site_id}/challenges", self.challenge, "POST"),
                route("/v1/sites/{site_id}/tokens", self.token, "POST"),
                route("/v1/site", self.site, "GET"),
                route("/v1/site/keys", self.rotate, "POST"),
                route("/v1/tasks/claim", self.claim, "POST"),
                route("/v1/tasks/{task_id}/heartbeat", self.heartbeat, "POST"),
                route("/v1/tasks/{task_id}/checkpoint", self.checkpoint, "GET"),
                route("/v1/tasks/{task_id}/slots/{name}", self.slot, "GET"),
                route("/v1/tasks/{task_id}/artifacts/{digest}", self.artifact, "PUT"),
                route("/v1/tasks/{task_id}/update", self.update, "PUT"),
                route("/v1/tasks/{task_id}/evaluation", self.evaluation, "PUT"),
                route("/v1/tasks/{task_id}/failure", self.failure, "POST"),
                route("/v1/session", self.session, "POST"),
                route("/v1/federations", self.federations, "GET"),
                route("/open/{digest}", self.blob, "PUT"),
                route("/open/{digest}", self.content, "GET"),
                *(route(*it) for it in self.more_routes()),
            ]
        )


def answer(message: BaseModel, status: int = 200) -> Response:
    return Response(message.model_dump_json(), status, media_type="application/json")


def ranged(content: bytes, request: Request, ranges: list[str]) -> Response:
    wanted = request.headers.get("Range")
    start = 0
    headers = {"Content-Length": str(len(content))}
    if wanted:
        ranges.append(wanted)
        start = int(wanted.removeprefix("bytes=").rstrip("-"))
        headers = {
            "Content-Length": str(len(content) - start),
            "Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}",
        }

    async def chunks() -> AsyncGenerator[bytes]:
        for at in range(start, len(content), 1 << 16):
            yield content[at : at + (1 << 16)]

    return StreamingResponse(
        chunks(),
        206 if wanted else 200,
        headers=headers,
        media_type="application/octet-stream",
    )


@contextlib.contextmanager
def serving(hub: FakeHub) -> Generator[FakeHub]:
    """Serve `hub` from a thread. Its socket listens already: no waiting for a start."""
    config = uvicorn.Config(
        hub.app(), log_config=None, lifespan="off", date_header=False, timeout_graceful_shutdown=1
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [hub.socket]}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        for gate in hub.gates.values():
            gate.opened.set()
        server.should_exit = True
        thread.join(DEADLINE)
        hub.socket.close()
        assert not thread.is_alive()
