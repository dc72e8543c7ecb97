"""What is stored: blobs, models and their checkpoints."""

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from app.db.base import Base


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
    encoding: Mapped[str | None]  # an encoded update's codec, as canonical JSON; None: as they are
    created_at: Mapped[datetime]  # when the bytes were sent, the last time
    purged_at: Mapped[datetime | None]  # the bytes are gone, or about to be


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
        Index("ix_checkpoints_federation_id_digest", "federation_id", "digest"),
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


class CheckpointSlot(Base):
    """A tensor file of the server's own that goes with a checkpoint: an optimiser's state."""

    __tablename__ = "checkpoint_slots"
    __table_args__ = (
        ForeignKeyConstraint(
            ["federation_id", "digest"], ["artifacts.federation_id", "artifacts.digest"]
        ),
        Index("ix_checkpoint_slots_federation_id_digest", "federation_id", "digest"),
    )

    checkpoint_id: Mapped[UUID] = mapped_column(ForeignKey("checkpoints.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str]  # which strategy's, over which tensors: RunPlan.state_kind
    federation_id: Mapped[UUID] = mapped_column(ForeignKey("federations.id"))
    digest: Mapped[str]
