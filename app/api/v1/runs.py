"""Runs, and everything that can be read of them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query, status

from app.api.dependencies import Access, IdempotencyKey, Now, PageParams, TransactionsDep
from app.api.filters import PartOfName
from app.api.pagination import page_of
from app.api.problems import problems
from app.domain.errors import (
    ForbiddenError,
    IllegalTransitionError,
    InvalidRequestError,
    NotFoundError,
)
from app.domain.permissions import Action
from app.services import idempotency, reports, runs
from hansa_core import wire
from hansa_core.states import RunState

router = APIRouter(prefix="/v1/federations/{federation}/runs", tags=["runs"])

READING = problems(NotFoundError, ForbiddenError)
CHANGING = problems(NotFoundError, ForbiddenError, IllegalTransitionError)


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    responses=problems(NotFoundError, ForbiddenError, InvalidRequestError),
)
def create_run(
    body: wire.RunCreate,
    access: Access,
    transactions: TransactionsDep,
    key: IdempotencyKey,
    now: Now,
) -> wire.Run:
    """Create a run from a plan. Every wrong field of the plan is reported at once."""
    access.require(Action.RUN)
    with transactions.begin("create_run", by=access.actor) as tx:
        return idempotency.once(
            tx,
            key,
            wire.Run,
            lambda: runs.create(
                tx, access.federation_id, body, user_id=access.principal.user_id, now=now
            ),
        )


@router.get("", responses=READING)
def list_runs(
    access: Access,
    transactions: TransactionsDep,
    page: PageParams,
    state: Annotated[list[RunState] | None, Query(description="repeat it for several")] = None,
    model_id: UUID | None = None,
    q: PartOfName = None,
) -> wire.Page[wire.Run]:
    """List runs, newest first."""
    access.require(Action.READ)
    with transactions.begin("list_runs") as tx:
        found = runs.list_runs(
            tx,
            access.federation_id,
            states=state or (),
            model_id=model_id,
            named=q,
            before=page.id(),
            limit=page.fetch,
        )
    return page_of(found, page.limit, lambda run: run.id)


@router.get("/{run_id}", responses=READING)
def get_run(run_id: UUID, access: Access, transactions: TransactionsDep, now: Now) -> wire.Run:
    """Return one run; `state_reason` says what it waits for."""
    access.require(Action.READ)
    with transactions.begin("get_run") as tx:
        return runs.get(tx, access.federation_id, run_id, now=now)


@router.post("/{run_id}/start", responses=CHANGING)
def start_run(run_id: UUID, access: Access, transactions: TransactionsDep) -> wire.Run:
    """Queue a draft. Repeating it changes nothing."""
    access.require(Action.RUN)
    with transactions.begin("start_run", by=access.actor) as tx:
        return runs.start(tx, access.federation_id, run_id)


@router.post("/{run_id}/cancel", responses=CHANGING)
def cancel_run(run_id: UUID, access: Access, transactions: TransactionsDep, now: Now) -> wire.Run:
    """End a run; its sites stop within one heartbeat. Repeating it changes nothing."""
    access.require(Action.RUN)
    with transactions.begin("cancel_run", by=access.actor) as tx:
        return runs.cancel(tx, access.federation_id, run_id, by=access.principal.email, now=now)


@router.post("/{run_id}/pause", responses=CHANGING)
def pause_run(
    run_id: UUID, body: wire.RunPause, access: Access, transactions: TransactionsDep, now: Now
) -> wire.Run:
    """Pause a run: when its round is closed, or at once by burning the round."""
    access.require(Action.RUN)
    with transactions.begin("pause_run", by=access.actor) as tx:
        return runs.pause(
            tx,
            access.federation_id,
            run_id,
            burn=body.round == "burn",
            by=access.principal.email,
            now=now,
        )


@router.post("/{run_id}/resume", responses=CHANGING)
def resume_run(run_id: UUID, access: Access, transactions: TransactionsDep) -> wire.Run:
    """Let a paused run go on from its latest checkpoint. Repeating it changes nothing."""
    access.require(Action.RUN)
    with transactions.begin("resume_run", by=access.actor) as tx:
        return runs.resume(tx, access.federation_id, run_id)


@router.post(
    "/{run_id}/fork",
    status_code=status.HTTP_201_CREATED,
    responses=problems(NotFoundError, ForbiddenError, InvalidRequestError),
)
def fork_run(
    run_id: UUID,
    body: wire.RunFork,
    access: Access,
    transactions: TransactionsDep,
    key: IdempotencyKey,
    now: Now,
) -> wire.Run:
    """Start a new run from a checkpoint of this one, with a changed plan."""
    access.require(Action.RUN)
    with transactions.begin("fork_run", by=access.actor) as tx:
        return idempotency.once(
            tx,
            key,
            wire.Run,
            lambda: runs.fork(
                tx,
                access.federation_id,
                run_id,
                body,
                user_id=access.principal.user_id,
                now=now,
            ),
        )


@router.get("/{run_id}/rounds", responses=READING)
def list_rounds(
    run_id: UUID,
    access: Access,
    transactions: TransactionsDep,
    page: PageParams,
    newest: Annotated[bool, Query(description="the newest first, pages go back in time")] = False,
    counts: Annotated[bool, Query(description="tell what their tasks came to")] = False,
) -> wire.Page[wire.Round]:
    """List rounds in the order they were opened; one that was held again is there each time."""
    access.require(Action.READ)
    with transactions.begin("list_rounds") as tx:
        found = reports.list_rounds(
            tx,
            access.federation_id,
            run_id,
            newest=newest,
            counts=counts,
            last=page.id(),
            limit=page.fetch,
        )
    return page_of(found, page.limit, lambda row: row.id)


@router.get("/{run_id}/rounds/{number}", responses=READING)
def get_round(
    run_id: UUID, number: int, access: Access, transactions: TransactionsDep
) -> wire.RoundDetail:
    """Return one round with every site's part in it, failures and tracebacks included."""
    access.require(Action.READ)
    with transactions.begin("get_round") as tx:
        return reports.get_round(tx, access.federation_id, run_id, number)


@router.get("/{run_id}/metrics", responses=READING)
def list_metrics(
    run_id: UUID, access: Access, transactions: TransactionsDep, page: PageParams
) -> wire.Page[wire.MetricPoint]:
    """List metrics in the order they came; `round_number` names the checkpoint, 0 the base."""
    access.require(Action.READ)
    with transactions.begin("list_metrics") as tx:
        found = reports.list_metrics(
            tx,
            access.federation_id,
            run_id,
            after=page.number() or 0,
            limit=page.fetch,
        )
    rows = page_of(found, page.limit, lambda item: item[0])
    return wire.Page(items=[point for _, point in rows.items], next_cursor=rows.next_cursor)


@router.get("/{run_id}/updates", responses=READING)
def list_updates(
    run_id: UUID,
    access: Access,
    transactions: TransactionsDep,
    page: PageParams,
    round_number: Annotated[int | None, Query(alias="round", ge=1)] = None,
) -> wire.Page[wire.Update]:
    """List updates, oldest first, with what it takes to verify their signatures offline."""
    access.require(Action.READ)
    with transactions.begin("list_updates") as tx:
        found = reports.list_updates(
            tx,
            access.federation_id,
            run_id,
            round_number=round_number,
            after=page.id(),
            limit=page.fetch,
        )
    return page_of(found, page.limit, lambda update: update.id)
