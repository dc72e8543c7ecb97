"""How long past rounds took."""

from typing import NamedTuple
from uuid import UUID

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app.db.models import Round, Run, Task
from hansa_core.states import RoundKind, RoundState

RUNS_LOOKED_AT = 20  # of a model, the newest


class Pace(NamedTuple):
    """What a completed training round took."""

    seconds: float  # from its opening to its closing
    sites: int  # that were asked to train


def paces_of_model(
    session: Session, federation_id: UUID, model_id: UUID, *, rounds: int
) -> list[Pace]:
    """Return the last `rounds` completed training rounds of a model's newest runs, newest first."""
    runs = (
        select(Run.id)
        .where(
            Run.federation_id == federation_id, Run.model_id == model_id, Run.rounds_completed > 0
        )
        .order_by(Run.id.desc())
        .limit(RUNS_LOOKED_AT)
    )
    asked = (
        select(func.count(Task.site_id.distinct()))
        .where(Task.round_id == Round.id, ~Task.evaluator)
        .correlate(Round)
        .scalar_subquery()
    )
    query = (
        select(Round.created_at, Round.closed_at, asked)
        .where(
            Round.run_id.in_(runs),
            Round.kind == RoundKind.TRAIN,
            Round.state == RoundState.COMPLETED,
        )
        .order_by(Round.id.desc())
        .limit(rounds)
    )
    return [
        Pace((closed_at - created_at).total_seconds(), sites)
        for created_at, closed_at, sites in session.execute(query)
        if closed_at is not None
    ]
