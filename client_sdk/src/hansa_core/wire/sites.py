"""Messages between a site and the hub: enrolment, access tokens, tasks, updates.

Signed messages are signed over `canonical_json(message.model_dump(mode="json"))` with the
purpose named beside each (hansa_core.signing).
"""

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any
from uuid import UUID

from pydantic import Field, JsonValue, SerializerFunctionWrapHandler, model_serializer

from hansa_core.codecs.plans import CodecPlan, ExactPlan
from hansa_core.local_work import LocalWork, Scalar
from hansa_core.names import Name
from hansa_core.states import RoundKind, SiteState, TaskPhase
from hansa_core.tensor_groups import TensorsPlan
from hansa_core.wire.base import Digest, Labels, Metrics, NumExamples, Request, Response
from hansa_core.wire.secure import SecureWork

MAX_TRACEBACK = 64 * 1024  # characters; longer ones keep their end
MAX_ERROR = 2000  # characters
MAX_LOG = 16 * 1024  # characters; longer ones keep their end


class Hardware(Request):
    """What a site says of its machine. Nothing here is trusted, only shown and matched."""

    cpus: int = Field(ge=1, le=65536)
    memory_bytes: int = Field(ge=0)
    gpus: list[str] = Field(default_factory=list, max_length=64)  # names
    platform: str = Field(default="", max_length=256)


class Enrollment(Request):
    """What a site asks for with an invitation. Signed with purpose `enroll`."""

    invitation: str = Field(min_length=8, max_length=256)
    site_name: Name
    public_key: str = Field(max_length=64, description="Ed25519, url-safe base64, no padding")
    labels: Labels = Field(default_factory=dict)
    hardware: Hardware
    sdk_version: str = Field(max_length=64)


class SignedEnrollment(Request):
    """An enrolment with proof that the site holds the key."""

    enrollment: Enrollment
    signature: str = Field(max_length=128)


class SiteView(Response):
    """A site as it sees itself."""

    id: UUID
    federation_id: UUID
    federation_slug: str
    name: str
    state: SiteState
    state_reason: str | None = None
    fingerprint: str


class Challenge(Response):
    """A one-time nonce to sign, with purpose `challenge`, as {"nonce", "site_id"}."""

    nonce: str
    expires_at: datetime


class ChallengeAnswer(Request):
    """A signed nonce, to be exchanged for an access token."""

    nonce: str = Field(max_length=128)
    signature: str = Field(max_length=128)


class SiteToken(Response):
    """A short-lived bearer token of a site."""

    token: str
    expires_at: datetime
    lifetime_seconds: float | None = None  # the same, for whoever's clock is wrong


class KeyRotation(Request):
    """A new key for a site, signed by the old and the new one with purpose `rotate-key`
    over {"new_public_key", "site_id"}."""

    new_public_key: str = Field(max_length=64)
    signature_by_old: str = Field(max_length=128)
    signature_by_new: str = Field(max_length=128)


class Feature(StrEnum):
    """What an SDK can do beyond plain training. A task that needs more is not given to it."""

    LOCAL_WORK = "local-work"  # corrections, scalars and parts (hansa_core.local_work)
    TENSOR_GROUPS = "tensor-groups"  # personal and frozen tensors, groups
    CODECS = "codecs"  # encoded updates
    SECURE = "secure-aggregation"  # duties and masked updates (hansa_core.secagg)


class SitePolicy(Request):
    """What a site's operator lets it do and tell, by its own word: only shown, never relied on."""

    secure_only: bool = False  # tasks of runs without secure aggregation are refused
    least_sum: int | None = Field(default=None, ge=1, le=2**31)  # of a secure round, in updates
    tracebacks: str = Field(default="full", max_length=64)  # of failures: full, none
    share_log: int = Field(default=0, ge=0, le=2**31)  # last lines beside a failure
    peers: str = Field(default="first-use", max_length=64)  # first-use, pinned, consortium
    features: list[Annotated[str, Field(max_length=64)]] = Field(
        default_factory=list[str], max_length=64
    )


class ClaimRequest(Request):
    """A request for work. Repeating it gives the same task with a renewed lease.

    `policy` came later and is left out where there is none: a hub of before refuses it.
    """

    sdk_version: str = Field(default="", max_length=64)
    hardware: Hardware | None = None
    features: list[Annotated[str, Field(max_length=64)]] = Field(
        default_factory=list[str], max_length=64
    )
    policy: SitePolicy | None = None

    @model_serializer(mode="wrap")
    def _without_empty(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), "policy")


class CheckpointRef(Response):
    """The global model that a task starts from."""

    id: UUID
    digest: Digest
    size: int  # bytes


class SlotRef(Response):
    """A slot of the server's, which goes with the checkpoint: GET /v1/tasks/{id}/slots/{name}."""

    name: Name
    digest: Digest
    size: int  # bytes


class Lease(Response):
    """The right to answer a task, until it expires without a heartbeat."""

    token: UUID
    expires_at: datetime
    heartbeat_seconds: float  # how often to renew


class Task(Response):
    """One site's part of a round."""

    id: UUID
    kind: RoundKind
    federation_id: UUID
    run_id: UUID
    run_name: str
    site_id: UUID
    round_number: int  # from 1
    rounds: int  # training rounds in the run
    seed: int  # the run's; a site derives its own from it, the round and its name
    checkpoint: CheckpointRef
    evaluate: bool  # evaluate the checkpoint on held-out data first
    training: dict[str, JsonValue]
    local_work: LocalWork = LocalWork()  # what the strategy asks beside a delta
    slots: list[SlotRef] = Field(default_factory=list[SlotRef])  # those that local_work needs
    tensors: TensorsPlan = TensorsPlan()
    groups: list[Name] = Field(default_factory=list[str])  # declared tensor groups the site holds
    codec: CodecPlan = ExactPlan()
    secure: SecureWork | None = None  # the update is masked; None: it is sent as it is
    # The task whose update was this site's last to count before the checkpoint: what the site
    # remembers of it is what it goes on from. None: there is none.
    follows: UUID | None = None
    lease: Lease
    attempt: int  # from 1
    deadline_at: datetime


class Progress(Request):
    """How far a site is with a task."""

    phase: TaskPhase
    fraction: float = Field(ge=0, le=1)
    metrics: Metrics = Field(default_factory=dict)


class Heartbeat(Request):
    """Keeps a lease alive."""

    lease_token: UUID
    progress: Progress


class HeartbeatReply(Response):
    """The renewed lease, or the wish that the site stops."""

    expires_at: datetime
    stop: bool = False
    reason: str | None = None
    duties: int = 0  # of secure runs, that wait for this site


class Evaluation(Request):
    """Metrics of one model on one site's held-out data."""

    num_examples: NumExamples
    metrics: Metrics


class UpdatePart(Request):
    """A file that goes with a delta."""

    digest: Digest
    size: int = Field(ge=0)  # bytes


class UpdateManifest(Request):
    """What a site answers a training task with. Signed with purpose `update-manifest`.

    Fields that came later are left out where they are empty: what an older SDK signs, and what it
    is told, has none of them.
    """

    task_id: UUID
    run_id: UUID
    site_id: UUID
    round_number: int = Field(ge=1)
    checkpoint_digest: Digest  # the model that was trained
    digest: Digest  # the uploaded delta
    size: int = Field(ge=0)  # bytes
    num_examples: NumExamples
    metrics: Metrics = Field(default_factory=dict)  # of the local training
    evaluation: Evaluation | None = None  # of the checkpoint, before training
    sdk_version: str = Field(default="", max_length=64)
    groups: list[Name] = Field(default_factory=list[str], max_length=1000)  # as in the task
    scalars: dict[Scalar, Annotated[float, Field(allow_inf_nan=False)]] = Field(
        default_factory=dict[Scalar, float]
    )
    parts: dict[Name, UpdatePart] = Field(default_factory=dict[str, UpdatePart], max_length=8)
    # Of a secure run: the digest of the header that the masks are bound to. num_examples is then 1:
    # the number of examples is inside the sum.
    secure_round: Digest | None = None

    @model_serializer(mode="wrap")
    def _without_empty(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), "groups", "scalars", "parts", "secure_round")


class SignedUpdate(Request):
    """An update manifest with its lease and signature."""

    lease_token: UUID
    manifest: UpdateManifest
    signature: str = Field(max_length=128)


class EvaluationReport(Request):
    """What a site answers an evaluation task with. Signed with purpose `evaluation-report`."""

    task_id: UUID
    run_id: UUID
    site_id: UUID
    round_number: int = Field(ge=1)
    checkpoint_digest: Digest
    evaluation: Evaluation
    sdk_version: str = Field(default="", max_length=64)


class SignedEvaluation(Request):
    """An evaluation report with its lease and signature."""

    lease_token: UUID
    report: EvaluationReport
    signature: str = Field(max_length=128)


class TaskReceipt(Response):
    """The hub's word that an answer is stored."""

    task_id: UUID
    digest: Digest  # of the update, or of the signed report
    received_at: datetime


class TaskFailure(Request):
    """Why a site could not do a task; the researcher reads it.

    `log` came later and is left out where it is empty: a hub of before refuses it.
    """

    lease_token: UUID
    error: str = Field(min_length=1, max_length=MAX_ERROR)
    traceback: str = Field(default="", max_length=MAX_TRACEBACK)
    log: str = Field(default="", max_length=MAX_LOG)  # the last lines logged during the task

    @model_serializer(mode="wrap")
    def _without_empty(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return _without(serialize(self), "log")


class BlobReceipt(Response):
    """The hub's word that a blob is stored."""

    digest: Digest
    size: int  # bytes


def _without(said: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a message without those of its fields that are empty."""
    return {name: it for name, it in said.items() if it or name not in names}
