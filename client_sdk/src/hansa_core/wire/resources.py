"""Messages between people's clients (CLI, UI, scripts) and the hub: the /v1 resources."""

from datetime import datetime
from typing import Literal
from uuid import UUID

from pydantic import Field, JsonValue, SecretStr

from hansa_core.names import Name
from hansa_core.plans import RunPlan
from hansa_core.states import (
    Role,
    RoundKind,
    RoundState,
    RunState,
    Scope,
    SiteState,
    TaskState,
)
from hansa_core.wire.base import Digest, Labels, Request, Response
from hansa_core.wire.counts import RoundCounts, SiteRecord
from hansa_core.wire.retention import Retention
from hansa_core.wire.secure import SecureRound
from hansa_core.wire.sites import Hardware, Progress, SitePolicy

Email = Field(min_length=3, max_length=254, pattern=r"^[^@\s]+@[^@\s]+$")


class Login(Request):
    email: str = Email
    password: SecretStr = Field(max_length=1024)


class User(Response):
    id: UUID
    email: str
    name: str
    is_admin: bool  # governs users, and is an owner in every federation
    created_at: datetime
    disabled_at: datetime | None = None


class Session(Response):
    token: str  # bearer token
    expires_at: datetime
    user: User


class CookieSession(Response):
    """A session of a browser: its token is in a cookie that no script can read."""

    expires_at: datetime
    user: User


class UserCreate(Request):
    email: str = Email
    name: str = Field(min_length=1, max_length=200)
    password: SecretStr = Field(min_length=12, max_length=1024)
    is_admin: bool = False


class UserChange(Request):
    name: str | None = Field(default=None, min_length=1, max_length=200)
    password: SecretStr | None = Field(default=None, min_length=12, max_length=1024)
    is_admin: bool | None = None
    disabled: bool | None = None


class ApiTokenCreate(Request):
    name: str = Field(min_length=1, max_length=200)
    scopes: list[Scope] = Field(min_length=1, max_length=8)
    expires_days: float = Field(default=90, gt=0, le=3650)


class ApiToken(Response):
    id: UUID
    name: str
    scopes: list[Scope]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None


class NewApiToken(ApiToken):
    token: str  # shown once


class FederationCreate(Request):
    slug: Name
    name: str = Field(min_length=1, max_length=200)
    description: str = Field(default="", max_length=5000)
    requires_approval: bool = True  # a site waits for an operator after its enrolment


class FederationChange(Request):
    name: str | None = Field(default=None, min_length=1, max_length=200)
    description: str | None = Field(default=None, max_length=5000)
    requires_approval: bool | None = None
    retention: Retention | None = None  # replaces the policy; one without rules keeps everything


class Federation(Response):
    id: UUID
    slug: str
    name: str
    description: str
    requires_approval: bool
    retention: Retention = Retention()
    created_at: datetime
    my_role: Role | None = None
    # Of audit, enroll, govern, hold, read and run, what one's role and the token in use allow.
    my_actions: list[str] = Field(default_factory=list[str])  # sorted


class MemberChange(Request):
    role: Role


class Member(Response):
    user_id: UUID
    email: str
    name: str
    role: Role
    created_at: datetime


class InvitationCreate(Request):
    max_uses: int = Field(default=1, ge=1, le=10_000)
    expires_hours: float = Field(default=72, gt=0, le=24 * 365)
    labels: Labels = Field(default_factory=dict)  # put on every site that redeems it


class Invitation(Response):
    id: UUID
    max_uses: int
    uses: int
    labels: dict[str, str]
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None


class NewInvitation(Invitation):
    token: str  # shown once
    command: str  # what the site's operator types


class SiteStateChange(Request):
    reason: str = Field(default="", max_length=1000)


class SiteLabels(Request):
    labels: Labels


class Site(Response):
    id: UUID
    federation_id: UUID
    name: str
    state: SiteState
    state_reason: str | None
    fingerprint: str
    labels: dict[str, str]
    hardware: Hardware | None
    sdk_version: str
    policy: SitePolicy | None = None  # as the site told it last; None: its SDK does not
    online: bool
    last_seen_at: datetime | None
    enrolled_at: datetime
    invitation_id: UUID | None = None  # that let it in
    record: SiteRecord | None = None  # of one site always, in a list where it is asked for


class ModelCreate(Request):
    name: Name
    description: str = Field(default="", max_length=5000)


class Model(Response):
    id: UUID
    federation_id: UUID
    name: str
    description: str
    parameters: int | None  # None until the first checkpoint
    latest_checkpoint_id: UUID | None
    created_at: datetime


class CheckpointCreate(Request):
    digest: Digest  # of an artifact uploaded before
    parent_id: UUID | None = None


class CheckpointSlot(Response):
    """A tensor file of the server's that goes with a checkpoint: an artifact like any other."""

    name: str  # "momentum", "variance", "control", ...
    kind: str  # which strategy's: one of the same kind goes on from it
    digest: Digest
    size: int  # bytes


class Checkpoint(Response):
    id: UUID
    model_id: UUID
    digest: Digest
    size: int  # bytes
    parent_id: UUID | None
    run_id: UUID | None
    round_number: int | None
    slots: list[CheckpointSlot] = Field(default_factory=list[CheckpointSlot])
    created_at: datetime


class Artifact(Response):
    digest: Digest
    size: int  # bytes
    created_at: datetime


class RunCreate(Request):
    plan: RunPlan
    checkpoint_id: UUID | None = None  # the base; None is the model's newest checkpoint
    start: bool = True


class RunPause(Request):
    round: Literal["finish", "burn"] = "finish"  # burn: cancel the open round, hold it again later


class RunFork(Request):
    """A new run from a checkpoint of another, with a changed plan."""

    name: Name
    round_number: int | None = Field(default=None, ge=0)  # its checkpoint; 0 the base, None newest
    changes: dict[str, JsonValue] = Field(default_factory=dict)  # JSON merge patch (RFC 7396)
    start: bool = True


class Run(Response):
    id: UUID
    federation_id: UUID
    name: str
    state: RunState
    state_reason: str | None  # what it waits for, or why it ended
    plan: RunPlan
    plan_digest: Digest
    model_id: UUID
    base_checkpoint_id: UUID
    latest_checkpoint_id: UUID
    rounds_completed: int
    parent_run_id: UUID | None = None  # forked from
    pausing: bool = False  # pauses when its round is closed
    bytes_moved: int = 0  # to and from sites, by closed rounds
    active_seconds: float = 0  # pauses left out
    created_at: datetime
    started_at: datetime | None
    finished_at: datetime | None


class TaskView(Response):
    """One site's part of a round, as a researcher sees it."""

    id: UUID
    site_id: UUID
    site_name: str
    evaluator: bool = False  # evaluates beside a training round; no part of its threshold
    repeat: int = 1  # a buffered round may ask a site more than once
    state: TaskState
    state_reason: str | None
    traceback: str | None
    log: str | None = None  # of a failed task: the last lines that the site logged
    attempts: int
    progress: Progress | None
    num_examples: int | None
    update_digest: Digest | None
    update_size: int | None  # bytes
    created_at: datetime
    claimed_at: datetime | None
    finished_at: datetime | None


class Exclusion(Response):
    """A site that a round did not ask, and why."""

    site: str
    reason: str


class Round(Response):
    id: UUID
    run_id: UUID
    number: int
    retry: int = 0  # how often that number was burnt or failed before
    kind: RoundKind
    state: RoundState
    state_reason: str | None
    base_checkpoint_id: UUID
    checkpoint_id: UUID | None  # what it produced
    threshold: int = 1  # fewest answers that make it
    target: int | None = None  # answers that close it at once; None: everybody's
    deadline_at: datetime
    created_at: datetime
    closed_at: datetime | None
    counts: RoundCounts | None = None  # of one round always, in a list where it is asked for


class RoundDetail(Round):
    tasks: list[TaskView]
    excluded: list[Exclusion] = Field(default_factory=list[Exclusion])
    secure: SecureRound | None = None  # of a secure run


class MetricPoint(Response):
    """One number: of a site, or (site_id None) the mean weighted by examples over sites."""

    round_number: int
    kind: str  # "train": local training; "eval": a checkpoint on held-out data
    name: str
    site_id: UUID | None
    site_name: str | None
    value: float
    num_examples: int


class Event(Response):
    id: int
    kind: str  # past tense, dotted: "round.completed"
    run_id: UUID | None
    at: datetime
    data: dict[str, JsonValue]


class Update(Response):
    """A stored update with what is needed to verify its signature offline."""

    id: UUID
    task_id: UUID
    site_id: UUID
    site_name: str
    digest: Digest
    size: int  # bytes
    num_examples: int
    manifest: str  # canonical JSON, exactly the signed bytes
    signature: str
    public_key: str
    fingerprint: str
    created_at: datetime
