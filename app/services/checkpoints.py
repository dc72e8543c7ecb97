"""Artifacts, models and checkpoints: what is stored, under which name, and where it came from."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.db import artifacts as rows
from app.db.models import Artifact, Checkpoint, CheckpointSlot, Model
from app.domain.errors import (
    AlreadyExistsError,
    ArtifactMissingError,
    ArtifactPurgedError,
    InvalidRequestError,
    NotFoundError,
)
from app.domain.ids import new_id
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.inspection import describe_mismatch
from hansa_core.layouts import Layout


@dataclass(frozen=True, slots=True)
class Blob:
    """Where a stored blob is, for a reader of the store."""

    federation_id: UUID
    digest: str
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class NewBlob:
    """A durable blob that has no row yet."""

    digest: str
    size: int  # bytes
    layout: Layout
    encoding: str | None = None  # RunPlan.encoding


def record_artifact(
    tx: Tx, federation_id: UUID, blob: NewBlob, *, now: datetime
) -> tuple[wire.BlobReceipt, bool]:
    """Write the row of a blob that is already durable; tell whether it is new.

    Raises:
        ArtifactPurgedError: the bytes of its row were deleted; `retention.revive` is the way back.
    """
    artifact = Artifact(
        federation_id=federation_id,
        digest=blob.digest,
        size=blob.size,
        layout=blob.layout.to_json(),
        encoding=blob.encoding,
        created_at=now,
    )
    recorded = rows.record_artifact(tx.session, artifact)
    if recorded is rows.Recorded.PURGED:
        raise ArtifactPurgedError(f"artifact {blob.digest} was deleted before it was sent again")
    created = recorded is rows.Recorded.NEW
    if created:
        tx.audit(
            "artifact.uploaded", federation_id=federation_id, digest=blob.digest, size=blob.size
        )
    return wire.BlobReceipt(digest=blob.digest, size=blob.size), created


def find_blob(tx: Tx, federation_id: UUID, digest: str) -> Blob:
    """Return where the artifact is.

    Raises:
        ArtifactMissingError: the federation has no such artifact.
        ArtifactPurgedError: it had one.
    """
    artifact = rows.find_artifact(tx.session, federation_id, digest)
    if artifact is None:
        raise ArtifactMissingError(f"this federation has no artifact {digest}")
    _require_bytes(artifact)
    return Blob(federation_id, digest, artifact.size)


def pin(tx: Tx, federation_id: UUID, digest: str) -> Artifact | None:
    """Return the artifact, which no retention policy purges until the commit.

    For whatever comes to need it.

    Raises:
        ArtifactPurgedError: it is too late.
    """
    artifact = rows.pin_artifact(tx.session, federation_id, digest)
    if artifact is not None:
        _require_bytes(artifact)
    return artifact


def create_model(
    tx: Tx, federation_id: UUID, request: wire.ModelCreate, *, user_id: UUID, now: datetime
) -> wire.Model:
    """Create an empty model.

    Raises:
        AlreadyExistsError: the federation has a model of that name.
    """
    model = Model(
        id=new_id(),
        federation_id=federation_id,
        name=request.name,
        description=request.description,
        created_by=user_id,
        created_at=now,
    )
    if not rows.add_model(tx.session, model):
        raise AlreadyExistsError(f"this federation has a model named {request.name!r} already")
    tx.record("model.created", federation_id=federation_id, model=request.name)
    return _model_view(model, None)


def get_model(tx: Tx, federation_id: UUID, name_or_id: str) -> wire.Model:
    """Return one model.

    Raises:
        NotFoundError: the federation has no such model.
    """
    model = _require_model(tx, federation_id, name_or_id)
    latest = rows.latest_checkpoint(tx.session, model.id)
    return _model_view(model, latest.id if latest else None)


def list_models(
    tx: Tx, federation_id: UUID, *, before: UUID | None, limit: int
) -> list[wire.Model]:
    """Return models, newest first."""
    models = rows.list_models(tx.session, federation_id, before=before, limit=limit)
    latest = rows.latest_checkpoint_ids(tx.session, [model.id for model in models])
    return [_model_view(model, latest.get(model.id)) for model in models]


def add_checkpoint(
    tx: Tx,
    federation_id: UUID,
    name_or_id: str,
    request: wire.CheckpointCreate,
    *,
    now: datetime,
) -> wire.Checkpoint:
    """Make an uploaded artifact a checkpoint of a model; the first one fixes its layout.

    Raises:
        NotFoundError: no such model, or no such parent.
        ArtifactMissingError, ArtifactPurgedError: the artifact was not uploaded, or is deleted.
        InvalidRequestError: its tensors are not those of the model.
    """
    model = _require_model(tx, federation_id, name_or_id)
    artifact = pin(tx, federation_id, request.digest)
    if artifact is None:
        raise ArtifactMissingError(
            f"this federation has no artifact {request.digest}; upload it first with "
            f"PUT /v1/federations/{{federation}}/artifacts/{request.digest}"
        )
    if artifact.encoding is not None:
        raise InvalidRequestError(
            f"artifact {request.digest} is an encoded update, wanted tensors as they are"
        )
    seen = Layout.from_json(artifact.layout)
    wanted = Layout.from_json(rows.fix_layout(tx.session, model.id, seen.to_json()))
    if seen != wanted:
        raise InvalidRequestError(
            f"the artifact does not fit model {model.name!r}: {describe_mismatch(seen, wanted)}"
        )
    if request.parent_id is not None:
        _require_checkpoint(tx, federation_id, request.parent_id)
    checkpoint = Checkpoint(
        id=new_id(),
        federation_id=federation_id,
        model_id=model.id,
        digest=request.digest,
        parent_id=request.parent_id,
        created_at=now,
    )
    tx.session.add(checkpoint)
    tx.record(
        "checkpoint.created",
        federation_id=federation_id,
        model=model.name,
        checkpoint_id=str(checkpoint.id),
        digest=request.digest,
    )
    return _checkpoint_view(checkpoint, artifact.size, [])


def get_checkpoint(tx: Tx, federation_id: UUID, checkpoint_id: UUID) -> wire.Checkpoint:
    """Return one checkpoint.

    Raises:
        NotFoundError: the federation has no such checkpoint.
    """
    checkpoint = _require_checkpoint(tx, federation_id, checkpoint_id)
    size = rows.sizes(tx.session, federation_id, [checkpoint.digest])[checkpoint.digest]
    slots = [_slot_view(slot, size) for slot, size in rows.slots(tx.session, checkpoint.id)]
    return _checkpoint_view(checkpoint, size, slots)


def list_checkpoints(
    tx: Tx, federation_id: UUID, name_or_id: str, *, before: UUID | None, limit: int
) -> list[wire.Checkpoint]:
    """Return a model's checkpoints, newest first."""
    model = _require_model(tx, federation_id, name_or_id)
    found = rows.list_checkpoints(tx.session, model.id, before=before, limit=limit)
    sizes = rows.sizes(tx.session, federation_id, [item.digest for item in found])
    slots: dict[UUID, list[wire.CheckpointSlot]] = {item.id: [] for item in found}
    for slot, size in rows.slots(tx.session, *slots):
        slots[slot.checkpoint_id].append(_slot_view(slot, size))
    return [_checkpoint_view(item, sizes[item.digest], slots[item.id]) for item in found]


def _require_model(tx: Tx, federation_id: UUID, name_or_id: str) -> Model:
    model = rows.find_model(tx.session, federation_id, name_or_id)
    if model is None:
        raise NotFoundError(f"this federation has no model {name_or_id!r}")
    return model


def _require_checkpoint(tx: Tx, federation_id: UUID, checkpoint_id: UUID) -> Checkpoint:
    checkpoint = rows.find_checkpoint(tx.session, federation_id, checkpoint_id)
    if checkpoint is None:
        raise NotFoundError(f"this federation has no checkpoint {checkpoint_id}")
    return checkpoint


def _require_bytes(artifact: Artifact) -> None:
    if artifact.purged_at is not None:
        raise ArtifactPurgedError(
            f"artifact {artifact.digest} was deleted on {artifact.purged_at:%Y-%m-%d}, as this "
            "federation's retention policy wants; upload the same bytes to have it again"
        )


def _model_view(model: Model, latest_checkpoint_id: UUID | None) -> wire.Model:
    return wire.Model(
        id=model.id,
        federation_id=model.federation_id,
        name=model.name,
        description=model.description,
        parameters=Layout.from_json(model.layout).parameters if model.layout else None,
        latest_checkpoint_id=latest_checkpoint_id,
        created_at=model.created_at,
    )


def _slot_view(slot: CheckpointSlot, size: int) -> wire.CheckpointSlot:
    return wire.CheckpointSlot(name=slot.name, kind=slot.kind, digest=slot.digest, size=size)


def _checkpoint_view(
    checkpoint: Checkpoint, size: int, slots: list[wire.CheckpointSlot]
) -> wire.Checkpoint:
    return wire.Checkpoint(
        id=checkpoint.id,
        model_id=checkpoint.model_id,
        digest=checkpoint.digest,
        size=size,
        parent_id=checkpoint.parent_id,
        run_id=checkpoint.run_id,
        round_number=checkpoint.round_number,
        slots=slots,
        created_at=checkpoint.created_at,
    )
