"""What rounds and sites have to show for their tasks."""

from collections.abc import Sequence
from uuid import UUID

from app.db import records as rows
from app.db.models import Round
from app.db.tasks import AnsweredTask
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.states import TaskState


def of_rounds(tx: Tx, found: Sequence[Round]) -> dict[UUID, wire.RoundCounts]:
    """Return what the tasks of each round came to, by the round's id."""
    counted = rows.of_rounds(tx.session, [row.id for row in found])
    return {
        row.id: wire.RoundCounts(
            open=counted[row.id].states.get(TaskState.OPEN, 0),
            claimed=counted[row.id].states.get(TaskState.CLAIMED, 0),
            done=counted[row.id].states.get(TaskState.DONE, 0),
            failed=counted[row.id].states.get(TaskState.FAILED, 0),
            late=counted[row.id].states.get(TaskState.LATE, 0),
            cancelled=counted[row.id].states.get(TaskState.CANCELLED, 0),
            excluded=counted[row.id].excluded,
            bytes_up=counted[row.id].bytes_up,
        )
        for row in found
    }


def of_sites(tx: Tx, federation_id: UUID, site_ids: Sequence[UUID]) -> dict[UUID, wire.SiteRecord]:
    """Return what became of the tasks of each of the federation's sites, by the site's id."""
    counted = rows.of_sites(tx.session, federation_id, site_ids)
    return {site_id: _record(counts) for site_id, counts in counted.items()}


def tasks_of_site(
    tx: Tx,
    federation_id: UUID,
    site_id: UUID,
    *,
    states: Sequence[TaskState],
    before: UUID | None,
    limit: int,
) -> list[wire.SiteTask]:
    """Return what one of the federation's sites was asked for, newest first."""
    found = rows.list_of_site(
        tx.session, federation_id, site_id, states=states, before=before, limit=limit
    )
    return [
        wire.SiteTask(
            run_id=placed.run_id,
            run_name=placed.run_name,
            round_number=placed.round_number,
            kind=placed.kind,
            task=task_view(placed.answered),
        )
        for placed in found
    ]


def task_view(found: AnsweredTask) -> wire.TaskView:
    """Return the task as people see it."""
    task, update, evaluation = found.task, found.update, found.evaluation
    answer = update or evaluation
    return wire.TaskView(
        id=task.id,
        site_id=task.site_id,
        site_name=found.site_name,
        evaluator=task.evaluator,
        repeat=task.repeat,
        state=TaskState(task.state),
        state_reason=task.state_reason,
        traceback=task.traceback,
        log=task.log,
        attempts=task.attempts,
        progress=None if task.progress is None else wire.Progress.model_validate(task.progress),
        num_examples=answer.num_examples if answer else None,
        update_digest=update.digest if update else None,
        update_size=found.update_size,
        created_at=task.created_at,
        claimed_at=task.claimed_at,
        finished_at=task.finished_at,
    )


def _record(counts: rows.Counts) -> wire.SiteRecord:
    done = counts.states.get(TaskState.DONE, 0)
    failed = counts.states.get(TaskState.FAILED, 0)
    late = counts.states.get(TaskState.LATE, 0)
    decided = done + failed + late
    return wire.SiteRecord(
        asked=sum(counts.states.values()),
        done=done,
        failed=failed,
        late=late,
        cancelled=counts.states.get(TaskState.CANCELLED, 0),
        rounds=counts.rounds,
        bytes_up=counts.bytes_up,
        last_done_at=counts.last_done_at,
        reliability=done / decided if decided else None,
    )
