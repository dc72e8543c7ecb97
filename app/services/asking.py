"""Asking sites for updates: tasks, until when, and how long they may take."""

from collections.abc import Iterable
from datetime import datetime, timedelta

from app.db import artifacts as artifact_rows
from app.db import runs as rows
from app.db.models import Round, Run, Site, Task
from app.domain.deadlines import derive_seconds
from app.domain.ids import new_id
from app.services.endings import active_seconds
from app.services.transactions import Tx
from hansa_core.plans import RunPlan
from hansa_core.states import RoundKind, TaskState

REMEMBERED_ROUNDS = 5  # what a deadline is derived from


def ask(
    tx: Tx, plan: RunPlan, row: Round, sites: Iterable[tuple[Site, bool, int]], *, now: datetime
) -> None:
    """Open a task for each (site, evaluator, repeat)."""
    asked = list(sites)
    tx.session.add_all(
        Task(
            id=new_id(),
            round_id=row.id,
            site_id=site.id,
            evaluator=evaluator,
            repeat=repeat,
            groups=plan.tensors.held_by(site.labels),
            state=TaskState.OPEN,
            attempts=0,
            created_at=now,
        )
        for site, evaluator, repeat in asked
    )
    tx.ring(*(site.id for site, _, _ in asked))


def deadline_of(
    tx: Tx, run: Run, plan: RunPlan, kind: RoundKind, sites: int, *, now: datetime
) -> datetime:
    """Return when the round closes whatever came; of training never after the time budget."""
    seconds = plan.deadlines.round_seconds
    if seconds is None:
        past = rows.answer_seconds(
            tx.session, run.id, after=run.rounds_completed - REMEMBERED_ROUNDS
        )
        size = artifact_rows.checkpoint_size(tx.session, run.latest_checkpoint_id)
        seconds = derive_seconds(past, transfer_bytes=2 * size * sites)
    if plan.budget.seconds is not None and kind is RoundKind.TRAIN:
        seconds = min(seconds, max(0.0, plan.budget.seconds - active_seconds(run, now)))
    return now + timedelta(seconds=seconds)
