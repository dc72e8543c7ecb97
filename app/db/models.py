"""The tables. Every invariant that a constraint can hold, a constraint holds.

Grouped by aggregate root: people, federations, sites, models, runs. Only app/db reads these.
"""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, one_of
from hansa_core.states import (
    Role,
    RoundKind,
    RoundState,
    RunState,
    SiteState,
    TaskState,
)


class User(Base):
    __tablename__ = "users"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    email: Mapped[str] = mapped_column(unique=True)  # stored in lower case
    name: Mapped[str]
    password_hash: Mapped[str]  # argon2id
    is_admin: Mapped[bool] = mapped_column(default=False)
    created_at: Mapped[datetime]
    disabled_at: Mapped[datetime | None]


class ApiToken(Base):
    """A person's bearer token: a login session, or a named token with scopes."""

    __tablename__ = "api_tokens"
    __table_args__ = (CheckConstraint("kind IN ('session', 'api')", name="kind_known"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), index=True)
    kind: Mapped[str]
    name: Mapped[str]
    token_hash: Mapped[bytes] = mapped_column(unique=True)  # SHA-256 of 256 random bits
    scopes: Mapped[list[Any]]
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class IdempotencyKey(Base):
    """The answer given to a POST that may be repeated; written in the POST's transaction."""

    __tablename__ = "idempotency_keys"

    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_hash: Mapped[bytes]  # SHA-256 of method, path and body
    response: Mapped[dict[str, Any] | None]  # None while its transaction runs
    created_at: Mapped[datetime] = mapped_column(index=True)


class Federation(Base):
    __tablename__ = "federations"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    slug: Mapped[str] = mapped_column(unique=True)
    name: Mapped[str]
    description: Mapped[str]
    requires_approval: Mapped[bool]
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]


class Member(Base):
    __tablename__ = "members"
    __table_args__ = (one_of("role", Role),)

    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"), primary_key=True)
    user_id: Mapped[UUID] = mapped_column(ForeignKey("users.id"), primary_key=True, index=True)
    role: Mapped[str]
    created_at: Mapped[datetime]


class Invitation(Base):
    __tablename__ = "invitations"
    __table_args__ = (CheckConstraint("uses >= 0 AND uses <= max_uses", name="uses_bounded"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"), index=True)
    token_hash: Mapped[bytes] = mapped_column(unique=True)
    max_uses: Mapped[int]
    uses: Mapped[int] = mapped_column(default=0)
    labels: Mapped[dict[str, Any]]
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    expires_at: Mapped[datetime]
    revoked_at: Mapped[datetime | None]


class Site(Base):
    __tablename__ = "sites"
    __table_args__ = (
        one_of("state", SiteState),
        UniqueConstraint("federation_id", "name"),
        UniqueConstraint("federation_id", "id"),  # target of federation-scoped foreign keys
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    name: Mapped[str]
    state: Mapped[str]
    state_reason: Mapped[str | None]
    labels: Mapped[dict[str, Any]]
    hardware: Mapped[dict[str, Any] | None]
    sdk_version: Mapped[str]
    invitation_id: Mapped[UUID] = mapped_column(ForeignKey("invitations.id"))
    enrolled_at: Mapped[datetime]
    last_seen_at: Mapped[datetime | None]


class SiteKey(Base):
    """An Ed25519 public key of a site; kept for ever, so that old signatures stay checkable."""

    __tablename__ = "site_keys"
    __table_args__ = (
        # One key in force per site; a key belongs to one site only.
        Index(
            "uq_site_keys_active",
            "site_id",
            unique=True,
            postgresql_where=text("retired_at IS NULL"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), index=True)
    public_key: Mapped[bytes] = mapped_column(unique=True)
    fingerprint: Mapped[str]
    created_at: Mapped[datetime]
    retired_at: Mapped[datetime | None]


class SiteChallenge(Base):
    """A nonce that a site was asked to sign; deleted when it is used."""

    __tablename__ = "site_challenges"

    nonce_hash: Mapped[bytes] = mapped_column(primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"))
    expires_at: Mapped[datetime] = mapped_column(index=True)


class SiteToken(Base):
    __tablename__ = "site_tokens"

    token_hash: Mapped[bytes] = mapped_column(primary_key=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"), index=True)
    key_id: Mapped[UUID] = mapped_column(ForeignKey("site_keys.id"))
    expires_at: Mapped[datetime] = mapped_column(index=True)


class Artifact(Base):
    """An immutable blob. The row is written after the bytes are durable."""

    __tablename__ = "artifacts"
    __table_args__ = (
        CheckConstraint("digest ~ '^[0-9a-f]{64}$'", name="digest_sha256"),
        CheckConstraint("size >= 0", name="size_positive"),
    )

    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"), primary_key=True)
    digest: Mapped[str] = mapped_column(primary_key=True)
    size: Mapped[int]  # bytes
    layout: Mapped[list[Any] | None]  # names, dtypes, shapes, when it holds tensors
    created_at: Mapped[datetime]


class Model(Base):
    """A named architecture: every checkpoint has the layout of the first."""

    __tablename__ = "models"
    __table_args__ = (UniqueConstraint("federation_id", "name"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    name: Mapped[str]
    description: Mapped[str]
    layout: Mapped[list[Any] | None]  # None until the first checkpoint
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]


class Checkpoint(Base):
    __tablename__ = "checkpoints"
    __table_args__ = (
        ForeignKeyConstraint(
            ["federation_id", "digest"], ["artifacts.federation_id", "artifacts.digest"]
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"), index=True)
    digest: Mapped[str]
    parent_id: Mapped[UUID | None] = mapped_column(ForeignKey("checkpoints.id"))
    run_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("runs.id", use_alter=True, name="fk_checkpoints_run_id")
    )
    # One checkpoint per round, whatever worker wrote it and how often.
    round_id: Mapped[UUID | None] = mapped_column(
        ForeignKey("rounds.id", use_alter=True, name="fk_checkpoints_round_id"), unique=True
    )
    round_number: Mapped[int | None]
    created_at: Mapped[datetime]


class Run(Base):
    __tablename__ = "runs"
    __table_args__ = (
        one_of("state", RunState),
        Index("ix_runs_federation_id_id", "federation_id", "id"),
        Index("ix_runs_alive", "id", postgresql_where=text("state IN ('queued', 'running')")),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    name: Mapped[str]
    state: Mapped[str]
    state_reason: Mapped[str | None]  # what it waits for, or why it ended
    plan: Mapped[dict[str, Any]]
    plan_digest: Mapped[str]
    model_id: Mapped[UUID] = mapped_column(ForeignKey("models.id"))
    base_checkpoint_id: Mapped[UUID] = mapped_column(ForeignKey("checkpoints.id"))
    latest_checkpoint_id: Mapped[UUID] = mapped_column(ForeignKey("checkpoints.id"))
    rounds_completed: Mapped[int] = mapped_column(default=0)  # training rounds
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Round(Base):
    __tablename__ = "rounds"
    __table_args__ = (
        one_of("state", RoundState),
        one_of("kind", RoundKind),
        UniqueConstraint("run_id", "number"),
        # A run has at most one open round.
        Index(
            "uq_rounds_open",
            "run_id",
            unique=True,
            postgresql_where=text("state IN ('collecting', 'aggregating')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id"))
    number: Mapped[int]  # from 1; the final evaluation comes after the last training round
    kind: Mapped[str]
    state: Mapped[str]
    state_reason: Mapped[str | None]
    base_checkpoint_id: Mapped[UUID] = mapped_column(ForeignKey("checkpoints.id"))
    checkpoint_id: Mapped[UUID | None] = mapped_column(ForeignKey("checkpoints.id"))
    threshold: Mapped[int]  # fewest answers that make the round
    evaluate: Mapped[bool]  # a training round that evaluates its base checkpoint first
    deadline_at: Mapped[datetime]
    lease_token: Mapped[UUID | None]  # of the worker that aggregates
    lease_expires_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)  # aggregations begun
    created_at: Mapped[datetime]
    closed_at: Mapped[datetime | None]


class Task(Base):
    __tablename__ = "tasks"
    __table_args__ = (
        one_of("state", TaskState),
        UniqueConstraint("round_id", "site_id"),
        # What a claim looks for.
        Index(
            "ix_tasks_claimable",
            "site_id",
            "id",
            postgresql_where=text("state IN ('open', 'claimed')"),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"))
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"))
    state: Mapped[str]
    state_reason: Mapped[str | None]
    traceback: Mapped[str | None]
    lease_token: Mapped[UUID | None]
    lease_expires_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(default=0)
    progress: Mapped[dict[str, Any] | None]
    created_at: Mapped[datetime]
    claimed_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Update(Base):
    """A site's signed answer to a training task."""

    __tablename__ = "updates"
    __table_args__ = (
        ForeignKeyConstraint(
            ["federation_id", "digest"], ["artifacts.federation_id", "artifacts.digest"]
        ),
        CheckConstraint("num_examples > 0", name="num_examples_positive"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"), index=True)
    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id"), unique=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"))
    key_id: Mapped[UUID] = mapped_column(ForeignKey("site_keys.id"))
    digest: Mapped[str]
    num_examples: Mapped[int]
    manifest: Mapped[str]  # canonical JSON, exactly the signed bytes
    signature: Mapped[bytes]
    created_at: Mapped[datetime]


class Evaluation(Base):
    """A site's signed answer to an evaluation task."""

    __tablename__ = "evaluations"
    __table_args__ = (CheckConstraint("num_examples > 0", name="num_examples_positive"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"), index=True)
    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id"), unique=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"))
    key_id: Mapped[UUID] = mapped_column(ForeignKey("site_keys.id"))
    num_examples: Mapped[int]
    report: Mapped[str]  # canonical JSON, exactly the signed bytes
    signature: Mapped[bytes]
    created_at: Mapped[datetime]


class Metric(Base):
    """One number. `round_number` names the checkpoint: 0 is the base, n is round n's."""

    __tablename__ = "metrics"
    __table_args__ = (
        CheckConstraint("kind IN ('train', 'eval')", name="kind_known"),
        UniqueConstraint(
            "run_id", "round_number", "kind", "name", "site_id", postgresql_nulls_not_distinct=True
        ),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id"))
    round_number: Mapped[int]
    kind: Mapped[str]
    name: Mapped[str]
    site_id: Mapped[UUID | None] = mapped_column(ForeignKey("sites.id"))  # None: mean over sites
    value: Mapped[float]
    num_examples: Mapped[int]


class Event(Base):
    """What happened, in commit-independent order of `id`; readers resume by the last id."""

    __tablename__ = "events"
    __table_args__ = (Index("ix_events_federation_id_id", "federation_id", "id"),)

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    run_id: Mapped[UUID | None] = mapped_column(ForeignKey("runs.id"))
    kind: Mapped[str]
    data: Mapped[dict[str, Any]]
    # The database's clock: one for all writers, and read while the federation's lock is held.
    at: Mapped[datetime] = mapped_column(server_default=func.clock_timestamp())
