"""What a researcher does with runs: create, start, pause, fork, cancel, read."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app.db import runs as rows
from app.db.models import Run
from app.domain.errors import IllegalTransitionError, NotFoundError
from app.domain.ids import new_id
from app.domain.plans import changed_plan
from app.domain.progress import Part, describe_round
from app.domain.runs import require_legal
from app.doorbell import STEP_RUN
from app.services import checkpoints, endings, proposals
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.plans import RunPlan
from hansa_core.states import RoundState, RunState


def create(
    tx: Tx,
    federation_id: UUID,
    request: wire.RunCreate,
    *,
    user_id: UUID,
    now: datetime,
    parent_run_id: UUID | None = None,
) -> wire.Run:
    """Create a run from a plan that fits this federation, and queue it when asked to start.

    Raises:
        InvalidRequestError: with every field of the plan that names something unusable.
        ArtifactPurgedError: the retention policy deleted the checkpoint to start from.
    """
    proposal = proposals.require_fit(tx, federation_id, request.plan, request.checkpoint_id)
    plan, base = proposal.plan, proposal.base
    checkpoints.pin(tx, federation_id, base.digest)
    run = Run(
        id=new_id(),
        parent_run_id=parent_run_id,
        federation_id=federation_id,
        name=plan.name,
        state=RunState.DRAFT,
        plan=plan.model_dump(mode="json"),
        plan_digest=proposal.digest,
        model_id=proposal.model.id,
        base_checkpoint_id=base.id,
        latest_checkpoint_id=base.id,
        rounds_completed=0,
        created_by=user_id,
        created_at=now,
    )
    tx.session.add(run)
    tx.session.flush()
    tx.record(
        "run.created",
        federation_id=federation_id,
        run_id=run.id,
        name=run.name,
        parent_run_id=None if parent_run_id is None else str(parent_run_id),
    )
    if request.start:
        _queue(tx, run)
    return run_view(run)


def start(tx: Tx, federation_id: UUID, run_id: UUID) -> wire.Run:
    """Queue a draft. Starting what has been started changes nothing.

    Raises:
        NotFoundError: the federation has no such run.
        IllegalTransitionError: the run is paused, or over.
    """
    run = _lock(tx, federation_id, run_id)
    if run.state == RunState.PAUSED:
        raise IllegalTransitionError("the run is paused: resume it")
    if run.state not in rows.ALIVE:
        _queue(tx, run)
    return run_view(run)


def pause(
    tx: Tx, federation_id: UUID, run_id: UUID, *, burn: bool, by: str, now: datetime
) -> wire.Run:
    """Pause a run, after its open round or burning it. Pausing what is paused changes nothing.

    Raises:
        NotFoundError: the federation has no such run.
        IllegalTransitionError: the run is not started, or over.
    """
    run = _lock(tx, federation_id, run_id)
    if run.state != RunState.PAUSED and not (run.pausing and not burn):
        endings.pause_run(tx, run, burn=burn, by=by, now=now)
    return run_view(run)


def resume(tx: Tx, federation_id: UUID, run_id: UUID) -> wire.Run:
    """Let a paused run go on. Resuming what goes on changes nothing, but for a coming pause.

    Raises:
        NotFoundError: the federation has no such run.
        IllegalTransitionError: the run is not started, or over.
    """
    run = _lock(tx, federation_id, run_id)
    if run.state == RunState.DRAFT:
        raise IllegalTransitionError("the run is a draft: start it")
    if run.pausing:
        run.pausing = False
        run.state_reason = None
        tx.record("run.resumed", federation_id=run.federation_id, run_id=run.id)
    elif run.state not in rows.ALIVE:
        _queue(tx, run)
    return run_view(run)


def fork(
    tx: Tx,
    federation_id: UUID,
    run_id: UUID,
    request: wire.RunFork,
    *,
    user_id: UUID,
    now: datetime,
) -> wire.Run:
    """Create a run from a checkpoint of another, its plan changed by a merge patch.

    Raises:
        NotFoundError: no such run, or it has no such checkpoint.
        InvalidRequestError: with every wrong field of the changed plan.
    """
    parent = require(tx, federation_id, run_id)
    if request.round_number is None:
        checkpoint_id = parent.latest_checkpoint_id
    elif request.round_number == 0:
        checkpoint_id = parent.base_checkpoint_id
    else:
        made = rows.checkpoint_of_round(tx.session, run_id, request.round_number)
        if made is None:
            raise NotFoundError(
                f"round {request.round_number} of run {parent.name} has made no checkpoint; "
                f"{parent.rounds_completed} rounds are completed"
            )
        checkpoint_id = made
    plan = changed_plan(parent.plan, {**request.changes, "name": request.name})
    wanted = wire.RunCreate(plan=plan, checkpoint_id=checkpoint_id, start=request.start)
    return create(tx, federation_id, wanted, user_id=user_id, now=now, parent_run_id=parent.id)


def cancel(tx: Tx, federation_id: UUID, run_id: UUID, *, by: str, now: datetime) -> wire.Run:
    """End a run; its sites stop within one heartbeat. Cancelling twice changes nothing.

    Raises:
        NotFoundError: the federation has no such run.
        IllegalTransitionError: the run ended otherwise.
    """
    run = _lock(tx, federation_id, run_id)
    if run.state != RunState.CANCELLED:
        endings.cancel_run(tx, run, reason=f"cancelled by {by}", now=now)
    return run_view(run)


def get(tx: Tx, federation_id: UUID, run_id: UUID, *, now: datetime) -> wire.Run:
    """Return one run, with what its open round waits for.

    Raises:
        NotFoundError: the federation has no such run.
    """
    run = require(tx, federation_id, run_id)
    return run_view(run, waits_for=_open_round_says(tx, run, now))


def list_runs(
    tx: Tx,
    federation_id: UUID,
    *,
    states: Sequence[RunState] = (),
    model_id: UUID | None = None,
    named: str | None = None,
    before: UUID | None,
    limit: int,
) -> list[wire.Run]:
    """Return runs, newest first: in these states if any, of a model, with `named` in the name."""
    found = rows.list_runs(
        tx.session,
        federation_id,
        states=states,
        model_id=model_id,
        named=named,
        before=before,
        limit=limit,
    )
    return [run_view(run) for run in found]


def require(tx: Tx, federation_id: UUID, run_id: UUID) -> Run:
    """Return the federation's run, or raise NotFoundError."""
    run = rows.find_run(tx.session, federation_id, run_id)
    if run is None:
        raise NotFoundError(f"this federation has no run {run_id}")
    return run


def run_view(run: Run, *, waits_for: str | None = None) -> wire.Run:
    """Return the run as people see it."""
    return wire.Run(
        id=run.id,
        federation_id=run.federation_id,
        name=run.name,
        state=RunState(run.state),
        state_reason="; ".join(filter(None, (run.state_reason, waits_for))) or None,
        plan=RunPlan.model_validate(run.plan),
        plan_digest=run.plan_digest,
        model_id=run.model_id,
        base_checkpoint_id=run.base_checkpoint_id,
        latest_checkpoint_id=run.latest_checkpoint_id,
        rounds_completed=run.rounds_completed,
        parent_run_id=run.parent_run_id,
        pausing=run.pausing,
        bytes_moved=run.bytes_moved,
        active_seconds=run.active_seconds,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
    )


def _lock(tx: Tx, federation_id: UUID, run_id: UUID) -> Run:
    run = rows.lock_run(tx.session, run_id)
    if run is None or run.federation_id != federation_id:
        raise NotFoundError(f"this federation has no run {run_id}")
    return run


def _open_round_says(tx: Tx, run: Run, now: datetime) -> str | None:
    current = rows.open_round(tx.session, run.id)
    if current is None:
        return None
    parts = [
        Part(part.site_name, part.last_seen_at, part.state, part.progress, part.evaluator)
        for part in rows.parts_of_round(tx.session, current.id)
    ]
    return describe_round(
        number=current.number,
        rounds=run.plan["rounds"],
        state=RoundState(current.state),
        wanted=current.target,
        parts=parts,
        now=now,
    )


def _queue(tx: Tx, run: Run) -> None:
    require_legal(RunState(run.state), RunState.QUEUED)
    run.state = RunState.QUEUED
    run.state_reason = "waiting for a worker to look at it"
    tx.record("run.queued", federation_id=run.federation_id, run_id=run.id)
    tx.send(STEP_RUN, run.id)
