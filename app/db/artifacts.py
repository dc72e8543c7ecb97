"""Rows of artifacts, and of the models and checkpoints that are made of them."""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Any
from uuid import UUID

from sqlalchemy import select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import Artifact, Checkpoint, CheckpointSlot, Model


class Recorded(Enum):
    """What writing an artifact's row came to."""

    NEW = auto()
    KNOWN = auto()  # now it counts as sent just now
    PURGED = auto()  # nothing was written: its bytes were deleted


def record_artifact(session: Session, artifact: Artifact) -> Recorded:
    """Write the row, or touch the one that exists: what is sent again is not purged soon."""
    values = {
        "federation_id": artifact.federation_id,
        "digest": artifact.digest,
        "size": artifact.size,
        "layout": artifact.layout,
        "encoding": artifact.encoding,
        "created_at": artifact.created_at,
    }
    fresh = insert(Artifact).values(**values).on_conflict_do_nothing().returning(Artifact.digest)
    if session.execute(fresh).first() is not None:
        return Recorded.NEW
    touched = (
        update(Artifact)
        .where(
            Artifact.federation_id == artifact.federation_id,
            Artifact.digest == artifact.digest,
            Artifact.purged_at.is_(None),
        )
        .values(created_at=artifact.created_at)
        .returning(Artifact.digest)
    )
    known = session.execute(touched).first() is not None
    return Recorded.KNOWN if known else Recorded.PURGED


def find_artifact(session: Session, federation_id: UUID, digest: str) -> Artifact | None:
    return session.get(Artifact, (federation_id, digest))


def pin_artifact(session: Session, federation_id: UUID, digest: str) -> Artifact | None:
    """Return the artifact with a lock as a foreign key takes it: no purge before the commit."""
    return session.get(
        Artifact,
        (federation_id, digest),
        with_for_update={"read": True, "key_share": True},
        populate_existing=True,
    )


def add_model(session: Session, model: Model) -> bool:
    """Add `model` unless the federation has one of that name; tell whether it was added."""
    statement = (
        insert(Model)
        .values(
            id=model.id,
            federation_id=model.federation_id,
            name=model.name,
            description=model.description,
            created_by=model.created_by,
            created_at=model.created_at,
        )
        .on_conflict_do_nothing()
        .returning(Model.id)
    )
    return session.execute(statement).first() is not None


def find_model(session: Session, federation_id: UUID, name_or_id: str) -> Model | None:
    """Return the federation's model with that name or UUID."""
    query = select(Model).where(Model.federation_id == federation_id)
    try:
        query = query.where(Model.id == UUID(name_or_id))
    except ValueError:
        query = query.where(Model.name == name_or_id)
    return session.scalars(query).one_or_none()


def list_models(
    session: Session, federation_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[Model]:
    query = select(Model).where(Model.federation_id == federation_id)
    if before is not None:
        query = query.where(Model.id < before)
    return session.scalars(query.order_by(Model.id.desc()).limit(limit)).all()


def fix_layout(session: Session, model_id: UUID, layout: list[Any]) -> list[Any]:
    """Give the model its layout if it has none yet; return the one it has."""
    session.execute(
        update(Model).where(Model.id == model_id, Model.layout.is_(None)).values(layout=layout)
    )
    return session.execute(select(Model.layout).where(Model.id == model_id)).scalar_one() or []


def latest_checkpoint(session: Session, model_id: UUID) -> Checkpoint | None:
    """Return the model's newest checkpoint."""
    query = select(Checkpoint).where(Checkpoint.model_id == model_id)
    return session.scalars(query.order_by(Checkpoint.id.desc()).limit(1)).one_or_none()


def find_checkpoint(
    session: Session, federation_id: UUID, checkpoint_id: UUID
) -> Checkpoint | None:
    query = select(Checkpoint).where(
        Checkpoint.id == checkpoint_id, Checkpoint.federation_id == federation_id
    )
    return session.scalars(query).one_or_none()


def list_checkpoints(
    session: Session, model_id: UUID, *, before: UUID | None, limit: int
) -> Sequence[Checkpoint]:
    query = select(Checkpoint).where(Checkpoint.model_id == model_id)
    if before is not None:
        query = query.where(Checkpoint.id < before)
    return session.scalars(query.order_by(Checkpoint.id.desc()).limit(limit)).all()


def sizes(session: Session, federation_id: UUID, digests: Sequence[str]) -> dict[str, int]:
    """Return the size in bytes of each of `digests`."""
    query = select(Artifact.digest, Artifact.size).where(
        Artifact.federation_id == federation_id, Artifact.digest.in_(digests)
    )
    return dict(session.execute(query).tuples().all())


def slots(session: Session, *checkpoint_ids: UUID) -> Sequence[tuple[CheckpointSlot, int]]:
    """Return the slots that go with checkpoints, by name, each with its size in bytes."""
    query = (
        select(CheckpointSlot, Artifact.size)
        .join(
            Artifact,
            (Artifact.federation_id == CheckpointSlot.federation_id)
            & (Artifact.digest == CheckpointSlot.digest),
        )
        .where(CheckpointSlot.checkpoint_id.in_(checkpoint_ids))
        .order_by(CheckpointSlot.name)
    )
    return [(slot, size) for slot, size in session.execute(query)]


def checkpoint_size(session: Session, checkpoint_id: UUID) -> int:
    """Return a checkpoint's size in bytes."""
    query = (
        select(Artifact.size)
        .join(
            Checkpoint,
            (Checkpoint.federation_id == Artifact.federation_id)
            & (Checkpoint.digest == Artifact.digest),
        )
        .where(Checkpoint.id == checkpoint_id)
    )
    return session.execute(query).scalar_one()


def latest_checkpoint_ids(session: Session, model_ids: Sequence[UUID]) -> dict[UUID, UUID]:
    """Return the newest checkpoint's id of each model that has one."""
    query = (
        select(Checkpoint.model_id, Checkpoint.id)
        .where(Checkpoint.model_id.in_(model_ids))
        .distinct(Checkpoint.model_id)
        .order_by(Checkpoint.model_id, Checkpoint.id.desc())
    )
    return dict(session.execute(query).tuples().all())
