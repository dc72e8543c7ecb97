"""What a researcher does with runs: create, start, cancel, read."""

from datetime import datetime
from uuid import UUID

from app.db import artifacts as artifact_rows
from app.db import runs as rows
from app.db.models import Run
from app.domain.errors import FieldProblem, InvalidRequestError, NotFoundError
from app.domain.ids import new_id
from app.domain.runs import require_legal
from app.doorbell import STEP_RUN
from app.services import rounds
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.plans import RunPlan, plan_digest
from hansa_core.problems import CanonicalizationError
from hansa_core.states import RunState


def create(
    tx: Tx, federation_id: UUID, request: wire.RunCreate, *, user_id: UUID, now: datetime
) -> wire.Run:
    """Create a run from a plan that fits this federation, and queue it when asked to start.

    Raises:
        InvalidRequestError: with every field of the plan that names something unusable.
    """
    plan = request.plan
    wrong: list[FieldProblem] = []
    model = artifact_rows.find_model(tx.session, federation_id, plan.model)
    base = None
    if model is None:
        wrong.append(
            FieldProblem("plan.model", f"this federation has no model named {plan.model!r}")
        )
    elif request.checkpoint_id is None:
        base = artifact_rows.latest_checkpoint(tx.session, model.id)
        if base is None:
            wrong.append(
                FieldProblem("plan.model", f"model {plan.model!r} has no checkpoint to start from")
            )
    else:
        base = artifact_rows.find_checkpoint(tx.session, federation_id, request.checkpoint_id)
        if base is None or base.model_id != model.id:
            wrong.append(
                FieldProblem(
                    "checkpoint_id",
                    f"model {plan.model!r} has no checkpoint {request.checkpoint_id}",
                )
            )
    try:
        digest = plan_digest(plan)
    except CanonicalizationError as error:  # nothing else in a plan is as free as `training`
        wrong.append(FieldProblem("plan.training", str(error)))
        digest = ""
    if wrong or model is None or base is None:
        detail = "; ".join(f"{problem.path}: {problem.message}" for problem in wrong)
        raise InvalidRequestError(detail, fields=tuple(wrong))
    run = Run(
        id=new_id(),
        federation_id=federation_id,
        name=plan.name,
        state=RunState.DRAFT,
        plan=plan.model_dump(mode="json"),
        plan_digest=digest,
        model_id=model.id,
        base_checkpoint_id=base.id,
        latest_checkpoint_id=base.id,
        rounds_completed=0,
        created_by=user_id,
        created_at=now,
    )
    tx.session.add(run)
    tx.session.flush()
    tx.record("run.created", federation_id=federation_id, run_id=run.id, name=run.name)
    if request.start:
        _queue(tx, run)
    return run_view(run)


def start(tx: Tx, federation_id: UUID, run_id: UUID) -> wire.Run:
    """Queue a draft. Starting what has been started changes nothing.

    Raises:
        NotFoundError: the federation has no such run.
        IllegalTransitionError: the run is over.
    """
    run = _lock(tx, federation_id, run_id)
    if run.state not in rows.ALIVE:
        _queue(tx, run)
    return run_view(run)


def cancel(tx: Tx, federation_id: UUID, run_id: UUID, *, by: str, now: datetime) -> wire.Run:
    """End a run; its sites stop within one heartbeat. Cancelling twice changes nothing.

    Raises:
        NotFoundError: the federation has no such run.
        IllegalTransitionError: the run ended otherwise.
    """
    run = _lock(tx, federation_id, run_id)
    if run.state != RunState.CANCELLED:
        rounds.cancel_run(tx, run, reason=f"cancelled by {by}", now=now)
    return run_view(run)


def get(tx: Tx, federation_id: UUID, run_id: UUID) -> wire.Run:
    """Return one run.

    Raises:
        NotFoundError: the federation has no such run.
    """
    return run_view(require(tx, federation_id, run_id))


def list_runs(tx: Tx, federation_id: UUID, *, before: UUID | None, limit: int) -> list[wire.Run]:
    """Return runs, newest first."""
    found = rows.list_runs(tx.session, federation_id, before=before, limit=limit)
    return [run_view(run) for run in found]


def require(tx: Tx, federation_id: UUID, run_id: UUID) -> Run:
    """Return the federation's run, or raise NotFoundError."""
    run = rows.find_run(tx.session, federation_id, run_id)
    if run is None:
        raise NotFoundError(f"this federation has no run {run_id}")
    return run


def run_view(run: Run) -> wire.Run:
    """Return the run as people see it."""
    return wire.Run(
        id=run.id,
        federation_id=run.federation_id,
        name=run.name,
        state=RunState(run.state),
        state_reason=run.state_reason,
        plan=RunPlan.model_validate(run.plan),
        plan_digest=run.plan_digest,
        model_id=run.model_id,
        base_checkpoint_id=run.base_checkpoint_id,
        latest_checkpoint_id=run.latest_checkpoint_id,
        rounds_completed=run.rounds_completed,
        created_at=run.created_at,
        started_at=run.started_at,
        finished_at=run.finished_at,
    )


def _lock(tx: Tx, federation_id: UUID, run_id: UUID) -> Run:
    run = rows.lock_run(tx.session, run_id)
    if run is None or run.federation_id != federation_id:
        raise NotFoundError(f"this federation has no run {run_id}")
    return run


def _queue(tx: Tx, run: Run) -> None:
    require_legal(RunState(run.state), RunState.QUEUED)
    run.state = RunState.QUEUED
    tx.record("run.queued", federation_id=run.federation_id, run_id=run.id)
    tx.send(STEP_RUN, run.id)
