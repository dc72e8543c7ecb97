"""A site's side of the protocol: enrolment, access tokens by challenge, tasks, key rotation.

Invariants: the private key signs and never travels; a token is renewed before it expires, judged
by the hub's own clock, and once when the hub refuses it; every call here may be repeated, so every
call is.
"""

import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from hansa import __version__
from hansa.answers import count_of
from hansa.errors import LocalError, ReenrollError, RefusedError
from hansa.failures import sendable
from hansa.hardware import hardware_of_this_machine
from hansa.identity import Identity, SiteRecord, StateDir, read_key, store_key
from hansa.newer_fields import NewerFields
from hansa.secure.calls import SecureCalls
from hansa.transfers import OnBytes, TransferOptions, UploadRoute, download_file, send_file
from hansa.transport import FixedToken, RetryPolicy, TokenSource, Transport
from hansa_core import wire
from hansa_core.canonical import canonical_json
from hansa_core.signing import (
    Purpose,
    encode_base64,
    fingerprint,
    generate_private_key,
    public_key,
    sign,
)

DUTIES_HEADER = "X-Hansa-Duties"  # of a claim's answer: how many duties wait for the site
LEASE_HEADER = "X-Hansa-Lease"
RENEW_AT = 0.8  # of a token's life


class SiteClient:
    """The hub as one enrolled site sees it. Safe to share between threads."""

    def __init__(
        self,
        identity: Identity,
        *,
        retry: RetryPolicy | None = None,
        timeout_seconds: float = 30.0,
        sleep: Callable[[float], object] = time.sleep,
        transfers: TransferOptions | None = None,
    ) -> None:
        self.identity = identity
        self._transfers = transfers or TransferOptions()
        self._newer = NewerFields()
        anonymous = Transport(
            identity.record.hub_url, retry=retry, timeout_seconds=timeout_seconds, sleep=sleep
        )
        self._transport = anonymous.with_tokens(_SiteTokens(identity, anonymous))

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def view(self) -> wire.SiteView:
        """Return the site as the hub has it. Raises HansaError."""
        return self._transport.call("GET", "/v1/site", wire.SiteView)

    @property
    def secure(self) -> SecureCalls:
        """The routes of secure runs, over the same connections."""
        return SecureCalls(self._transport, self.identity.private_key)

    def claim(
        self,
        *,
        wait_seconds: float,
        hardware: wire.Hardware | None,
        on_duties: Callable[[int], None] = lambda _: None,
        policy: wire.SitePolicy | None = None,
    ) -> wire.Task | None:
        """Return the oldest task for this site, leased; None when there is none within the wait.

        `on_duties` is told how many duties of secure runs wait: they end the wait. Raises
        HansaError.
        """
        path = "/v1/tasks/claim"
        wanted = wire.ClaimRequest(
            sdk_version=__version__, hardware=hardware, features=list(wire.Feature), policy=policy
        )
        params = {"wait_seconds": wait_seconds}
        reply = self._newer.send(
            lambda body: self._transport.send(
                "POST", path, body=body, params=params, wait_seconds=wait_seconds
            ),
            wanted,
            without="policy",
        )
        duties = count_of(reply.headers.get(DUTIES_HEADER))
        if duties:
            on_duties(duties)
        if not reply.body:
            return None
        return self._transport.parsed(reply.body, wire.Task, f"POST {path}")

    def beat(self, task: wire.Task, progress: wire.Progress) -> wire.HeartbeatReply:
        """Renew the task's lease and say how far it is. Raises TaskLostError, HansaError."""
        return self._transport.call(
            "POST",
            f"/v1/tasks/{task.id}/heartbeat",
            wire.HeartbeatReply,
            body=wire.Heartbeat(lease_token=task.lease.token, progress=progress),
        )

    def download_checkpoint(
        self, task: wire.Task, target: Path, on_bytes: OnBytes | None = None
    ) -> None:
        """Store the model that `task` starts from at `target`. Raises HansaError."""
        download_file(
            self._transport,
            f"/v1/tasks/{task.id}/checkpoint",
            target,
            digest=task.checkpoint.digest,
            size=task.checkpoint.size,
            options=self._transfers,
            on_bytes=on_bytes,
        )

    def download_slot(
        self, task: wire.Task, slot: wire.SlotRef, target: Path, on_bytes: OnBytes | None = None
    ) -> None:
        """Store a slot of the server's that goes with the model at `target`. Raises HansaError."""
        download_file(
            self._transport,
            f"/v1/tasks/{task.id}/slots/{slot.name}",
            target,
            digest=slot.digest,
            size=slot.size,
            options=self._transfers,
            on_bytes=on_bytes,
        )

    def upload_delta(
        self,
        task: wire.Task,
        source: Path,
        *,
        digest: str,
        size: int,
        part: str | None = None,
        on_bytes: OnBytes | None = None,
    ) -> wire.BlobReceipt:
        """Store the file `source` as the blob `digest` of `task`. Raises HansaError.

        `part`: it is not the delta but what goes with it by that name.
        """
        route = UploadRoute(
            whole=f"/v1/tasks/{task.id}/artifacts/{digest}",
            chunks=f"/v1/tasks/{task.id}/uploads/{digest}",
            headers={LEASE_HEADER: str(task.lease.token)},
            params={} if part is None else {"part": part},
        )
        return send_file(
            self._transport, route, source, size=size, options=self._transfers, on_bytes=on_bytes
        )

    def sign_update(self, manifest: wire.UpdateManifest) -> str:
        """Return the site's signature of an update."""
        return _signed(self.identity.private_key, Purpose.UPDATE, manifest.model_dump(mode="json"))

    def submit_update(
        self, task: wire.Task, manifest: wire.UpdateManifest, signature: str
    ) -> wire.TaskReceipt:
        """Answer a training task. Raises TaskLostError, HansaError."""
        return self._transport.call(
            "PUT",
            f"/v1/tasks/{task.id}/update",
            wire.TaskReceipt,
            body=wire.SignedUpdate(
                lease_token=task.lease.token, manifest=manifest, signature=signature
            ),
        )

    def sign_evaluation(self, report: wire.EvaluationReport) -> str:
        """Return the site's signature of an evaluation."""
        return _signed(
            self.identity.private_key, Purpose.EVALUATION, report.model_dump(mode="json")
        )

    def submit_evaluation(
        self, task: wire.Task, report: wire.EvaluationReport, signature: str
    ) -> wire.TaskReceipt:
        """Answer an evaluation task. Raises TaskLostError, HansaError."""
        return self._transport.call(
            "PUT",
            f"/v1/tasks/{task.id}/evaluation",
            wire.TaskReceipt,
            body=wire.SignedEvaluation(
                lease_token=task.lease.token, report=report, signature=signature
            ),
        )

    def fail(self, task: wire.Task, error: str, traceback: str, log: str = "") -> None:
        """Tell the hub that `task` cannot be done here, and why. Raises HansaError."""
        told = sendable(error.strip())[: wire.MAX_ERROR]
        self._newer.send(
            lambda body: self._transport.send("POST", f"/v1/tasks/{task.id}/failure", body=body),
            wire.TaskFailure(
                lease_token=task.lease.token,
                error=told or "the trainer failed without a message",
                traceback=sendable(traceback)[-wire.MAX_TRACEBACK :],
                log=sendable(log)[-wire.MAX_LOG :],
            ),
            without="log",
        )

    def rotate(self, new_private_key: bytes) -> wire.SiteView:
        """Make another key this site's; old tokens die. Raises HansaError."""
        new_public = encode_base64(public_key(new_private_key))
        payload = {
            "new_public_key": new_public,
            "site_id": str(self.identity.record.site_id),
        }
        return self._transport.call(
            "POST",
            "/v1/site/keys",
            wire.SiteView,
            body=wire.KeyRotation(
                new_public_key=new_public,
                signature_by_old=_signed(self.identity.private_key, Purpose.ROTATE, payload),
                signature_by_new=_signed(new_private_key, Purpose.ROTATE, payload),
            ),
        )


class _SiteTokens(TokenSource):
    """Access tokens got by signing the hub's challenge; one at a time, shared by all threads."""

    def __init__(self, identity: Identity, transport: Transport) -> None:
        self._identity = identity
        self._transport = transport
        self._lock = threading.Lock()
        self._token: str | None = None
        self._renew_at = 0.0  # monotonic seconds

    def token(self) -> str:
        """Return a token that is not about to expire."""
        with self._lock:
            if self._token is None or time.monotonic() >= self._renew_at:
                self._token = self._ask()
            return self._token

    def renew(self, refused: str | None) -> str:
        """Return a token other than `refused`; another thread may have got it already."""
        with self._lock:
            if self._token is None or self._token == refused:
                self._token = self._ask()
            return self._token

    def _ask(self) -> str:
        site_id = str(self._identity.record.site_id)
        try:
            challenge = self._transport.call(
                "POST", f"/v1/sites/{site_id}/challenges", wire.Challenge
            )
            signature = _signed(
                self._identity.private_key,
                Purpose.CHALLENGE,
                {"nonce": challenge.nonce, "site_id": site_id},
            )
            asked = time.monotonic()
            path = f"/v1/sites/{site_id}/tokens"
            reply = self._transport.send(
                "POST",
                path,
                body=wire.ChallengeAnswer(nonce=challenge.nonce, signature=signature),
                repeat=False,  # the nonce is good for one answer
            )
        except RefusedError as error:
            if error.slug in {"not-found", "signature-refused"}:
                raise ReenrollError(
                    f"the hub at {self._transport.url} does not accept the identity of site "
                    f"{self._identity.record.site_name!r} ({site_id}): {error}",
                    hint="if the hub was set up anew or the key was changed elsewhere, "
                    "enroll again with a new --state-dir",
                    problem=error.problem,
                ) from error
            raise
        token = self._transport.parsed(reply.body, wire.SiteToken, f"POST {path}")
        life = token.lifetime_seconds
        if life is None:  # an older hub
            life = (token.expires_at - (reply.date or datetime.now(UTC))).total_seconds()
        self._renew_at = asked + max(0.0, life) * RENEW_AT
        return token.token


def enroll(
    state: StateDir,
    url: str,
    invitation: str,
    *,
    name: str,
    labels: Mapping[str, str] | None = None,
    retry: RetryPolicy | None = None,
) -> wire.SiteView:
    """Redeem an invitation and record who this site now is. Repeating it after a crash is safe.

    The key is on disk before the hub hears of it. Hold `state.locked()` around this.

    Raises:
        LocalError: the folder already holds an enrolled site.
        HansaError: the hub refuses, or cannot be reached.
    """
    known = state.record()
    if known is not None:
        raise LocalError(
            f"{state.path} already holds the site {known.site_name!r} of federation "
            f"{known.federation_slug!r} at {known.hub_url}",
            hint="a second site needs its own --state-dir",
        )
    private_key = state.ensure_key()
    enrollment = wire.Enrollment(
        invitation=invitation,
        site_name=name,
        public_key=encode_base64(public_key(private_key)),
        labels=dict(labels or {}),
        hardware=hardware_of_this_machine(),
        sdk_version=__version__,
    )
    with Transport(url, FixedToken(), retry=retry) as transport:
        view = transport.call(
            "POST",
            "/v1/enrollments",
            wire.SiteView,
            body=wire.SignedEnrollment(
                enrollment=enrollment,
                signature=_signed(private_key, Purpose.ENROLL, enrollment.model_dump(mode="json")),
            ),
        )
        state.save(
            SiteRecord(
                hub_url=transport.url,
                site_id=view.id,
                site_name=view.name,
                federation_id=view.federation_id,
                federation_slug=view.federation_slug,
                fingerprint=fingerprint(public_key(private_key)),
            )
        )
    return view


def rotate_key(state: StateDir, *, retry: RetryPolicy | None = None) -> SiteRecord:
    """Replace the site's key, resuming a rotation that was interrupted. Raises HansaError.

    The next key is on disk before the hub hears of it, so there is no moment at which the hub
    knows only a key that is lost. Hold `state.locked()` around this.
    """
    identity = settle_rotation(state, retry=retry)
    store_key(state.next_key_path, generate_private_key())
    next_key = read_key(state.next_key_path)
    with SiteClient(identity, retry=retry) as client:
        client.rotate(next_key)
    return _adopt(state, identity.record, next_key)


def settle_rotation(state: StateDir, *, retry: RetryPolicy | None = None) -> Identity:
    """Return the site's identity, after finding out which key an interrupted rotation left.

    Raises HansaError.
    """
    identity = state.identity()
    if not state.next_key_path.exists():
        return identity
    next_key = read_key(state.next_key_path)
    try:
        with SiteClient(Identity(identity.record, next_key), retry=retry) as client:
            client.view()
    except ReenrollError:
        return identity  # the hub never took the next key
    return Identity(_adopt(state, identity.record, next_key), next_key)


def _adopt(state: StateDir, record: SiteRecord, key: bytes) -> SiteRecord:
    renewed = record.model_copy(update={"fingerprint": fingerprint(public_key(key))})
    state.adopt_next_key()
    state.save(renewed)
    return renewed


def _signed(private_key: bytes, purpose: Purpose, message: Mapping[str, object]) -> str:
    return encode_base64(sign(private_key, purpose, canonical_json(dict(message))))
