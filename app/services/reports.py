"""What researchers and auditors read of a run: rounds, tasks, metrics, updates."""

from uuid import UUID

from app.db import metrics as metric_rows
from app.db import runs as run_rows
from app.db import tasks as rows
from app.db import updates as update_rows
from app.db.models import Round
from app.domain.errors import NotFoundError
from app.services import records, runs
from app.services.secure.showing import show
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.signing import encode_base64
from hansa_core.states import RoundKind, RoundState


def list_rounds(
    tx: Tx,
    federation_id: UUID,
    run_id: UUID,
    *,
    newest: bool,
    counts: bool,
    last: UUID | None,
    limit: int,
) -> list[wire.Round]:
    """Return the run's rounds beyond `last`, in the order they were opened or the newest first.

    Raises:
        NotFoundError: the federation has no such run.
    """
    runs.require(tx, federation_id, run_id)
    if newest:
        found = run_rows.newest_rounds(tx.session, run_id, before=last, limit=limit)
    else:
        found = run_rows.list_rounds(tx.session, run_id, after=last, limit=limit)
    told = records.of_rounds(tx, found) if counts else {}
    return [_round_view(row, told.get(row.id)) for row in found]


def get_round(tx: Tx, federation_id: UUID, run_id: UUID, number: int) -> wire.RoundDetail:
    """Return one round with every site's part in it; of a round held again, the last try.

    Raises:
        NotFoundError: the federation has no such run, or the run no such round.
    """
    runs.require(tx, federation_id, run_id)
    row = run_rows.find_round(tx.session, run_id, number)
    if row is None:
        raise NotFoundError(f"run {run_id} has no round {number}")
    told = records.of_rounds(tx, [row])
    tasks = [records.task_view(task) for task in rows.views_of_round(tx.session, row.id)]
    excluded = [wire.Exclusion.model_validate(item) for item in row.excluded]
    return wire.RoundDetail(
        **_round_view(row, told[row.id]).model_dump(),
        tasks=tasks,
        excluded=excluded,
        secure=show(tx, row),
    )


def list_metrics(
    tx: Tx, federation_id: UUID, run_id: UUID, *, after: int, limit: int
) -> list[tuple[int, wire.MetricPoint]]:
    """Return (row id, point) of the run's metrics, in the order they came.

    Raises:
        NotFoundError: the federation has no such run.
    """
    runs.require(tx, federation_id, run_id)
    return [
        (
            found.metric.id,
            wire.MetricPoint(
                round_number=found.metric.round_number,
                kind=found.metric.kind,
                name=found.metric.name,
                site_id=found.metric.site_id,
                site_name=found.site_name,
                value=found.metric.value,
                num_examples=found.metric.num_examples,
            ),
        )
        for found in metric_rows.list_metrics(tx.session, run_id, after=after, limit=limit)
    ]


def list_updates(
    tx: Tx,
    federation_id: UUID,
    run_id: UUID,
    *,
    round_number: int | None,
    after: UUID | None,
    limit: int,
) -> list[wire.Update]:
    """Return the run's updates with what verifies their signatures, oldest first.

    Raises:
        NotFoundError: the federation has no such run.
    """
    runs.require(tx, federation_id, run_id)
    found = update_rows.list_updates(
        tx.session, run_id, round_number=round_number, after=after, limit=limit
    )
    return [
        wire.Update(
            id=update.id,
            task_id=update.task_id,
            site_id=update.site_id,
            site_name=site_name,
            digest=update.digest,
            size=size,
            num_examples=update.num_examples,
            manifest=update.manifest,
            signature=encode_base64(update.signature),
            public_key=encode_base64(key.public_key),
            fingerprint=key.fingerprint,
            created_at=update.created_at,
        )
        for update, site_name, size, key in found
    ]


def _round_view(row: Round, counts: wire.RoundCounts | None) -> wire.Round:
    return wire.Round(
        id=row.id,
        run_id=row.run_id,
        number=row.number,
        retry=row.retry,
        kind=RoundKind(row.kind),
        state=RoundState(row.state),
        state_reason=row.state_reason,
        base_checkpoint_id=row.base_checkpoint_id,
        checkpoint_id=row.checkpoint_id,
        threshold=row.threshold,
        target=row.target,
        deadline_at=row.deadline_at,
        created_at=row.created_at,
        closed_at=row.closed_at,
        counts=counts,
    )
