"""Runs, their rounds and tasks, and what the sites answered."""

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
    false,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base, one_of
from hansa_core.states import RoundKind, RoundState, RunState, TaskState


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
    parent_run_id: Mapped[UUID | None] = mapped_column(ForeignKey("runs.id"))  # forked from
    pausing: Mapped[bool] = mapped_column(server_default=false(), default=False)
    stop_reason: Mapped[str | None]  # why training ends before the plan's last round
    bytes_moved: Mapped[int] = mapped_column(server_default="0", default=0)  # to and from sites
    active_seconds: Mapped[float] = mapped_column(server_default="0", default=0.0)  # up to a pause
    active_since: Mapped[datetime | None]  # None: paused, not started or over
    created_by: Mapped[UUID] = mapped_column(ForeignKey("users.id"))
    created_at: Mapped[datetime]
    started_at: Mapped[datetime | None]
    finished_at: Mapped[datetime | None]


class Round(Base):
    __tablename__ = "rounds"
    __table_args__ = (
        one_of("state", RoundState),
        one_of("kind", RoundKind),
        UniqueConstraint("run_id", "number", "retry"),
        # A run has at most one open round.
        Index(
            "uq_rounds_open",
            "run_id",
            unique=True,
            postgresql_where=text(
                "state IN ('setup', 'collecting', 'signing', 'opening', 'aggregating')"
            ),
        ),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    run_id: Mapped[UUID] = mapped_column(ForeignKey("runs.id"))
    number: Mapped[int]  # from 1; the final evaluation comes after the last training round
    retry: Mapped[int] = mapped_column(server_default="0", default=0)  # burnt or failed before
    kind: Mapped[str]
    state: Mapped[str]
    state_reason: Mapped[str | None]
    base_checkpoint_id: Mapped[UUID] = mapped_column(ForeignKey("checkpoints.id"))
    checkpoint_id: Mapped[UUID | None] = mapped_column(ForeignKey("checkpoints.id"))
    threshold: Mapped[int]  # fewest answers that make the round
    target: Mapped[int | None]  # answers that close it at once; None: everybody's
    population: Mapped[int | None]  # sites that could have been asked; None: before it was counted
    excluded: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"), default=list)
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
        UniqueConstraint("round_id", "site_id", "repeat"),
        Index("ix_tasks_site_id_id", "site_id", "id"),  # a site's history, newest first
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
    # Asked to evaluate beside a training round; its answer does not count for the threshold.
    evaluator: Mapped[bool] = mapped_column(server_default=false(), default=False)
    # From 1. A buffered run asks a fast site more than once in a round.
    repeat: Mapped[int] = mapped_column(server_default="1", default=1)
    # Declared tensor groups of the plan that the site held when it was asked.
    groups: Mapped[list[Any]] = mapped_column(server_default=text("'[]'"), default=list)
    state: Mapped[str]
    state_reason: Mapped[str | None]
    traceback: Mapped[str | None]
    log: Mapped[str | None]  # of a failed task: what the site logged last
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
        Index("ix_updates_federation_id_digest", "federation_id", "digest"),
    )

    id: Mapped[UUID] = mapped_column(primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    # The round that it counts in; None: a buffered run's, waiting for the next buffer.
    round_id: Mapped[UUID | None] = mapped_column(ForeignKey("rounds.id"), index=True)
    task_id: Mapped[UUID] = mapped_column(ForeignKey("tasks.id"), unique=True)
    site_id: Mapped[UUID] = mapped_column(ForeignKey("sites.id"))
    key_id: Mapped[UUID] = mapped_column(ForeignKey("site_keys.id"))
    digest: Mapped[str]
    num_examples: Mapped[int]
    manifest: Mapped[str]  # canonical JSON, exactly the signed bytes
    signature: Mapped[bytes]
    created_at: Mapped[datetime]


class UpdatePart(Base):
    """A tensor file that goes with an update, as the strategy wants it."""

    __tablename__ = "update_parts"
    __table_args__ = (
        ForeignKeyConstraint(
            ["federation_id", "digest"], ["artifacts.federation_id", "artifacts.digest"]
        ),
        Index("ix_update_parts_federation_id_digest", "federation_id", "digest"),
    )

    update_id: Mapped[UUID] = mapped_column(ForeignKey("updates.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    digest: Mapped[str]


class AggregationPart(Base):
    """A share of one aggregation that is split over workers: the same, whoever makes it.

    Stages follow each other: measurements that rules need of whole updates, then what is written.
    """

    __tablename__ = "aggregation_parts"
    __table_args__ = (UniqueConstraint("round_id", "stage", "index"),)

    id: Mapped[UUID] = mapped_column(primary_key=True)
    round_id: Mapped[UUID] = mapped_column(ForeignKey("rounds.id"))
    stage: Mapped[int]  # from 0
    index: Mapped[int]  # of the range of elements, from 0
    count: Mapped[int]  # parts that were wanted of every stage
    lease_token: Mapped[UUID | None]
    lease_expires_at: Mapped[datetime | None]
    attempts: Mapped[int] = mapped_column(server_default="0", default=0)
    result: Mapped[dict[str, Any] | None]  # None: not done yet


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
