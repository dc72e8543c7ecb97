"""Where checkpoints come from: what a card tells of one, and what runs made of a model."""

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from sqlalchemy import case, func, literal, select, true
from sqlalchemy.orm import Session, aliased

from app.db.models import Checkpoint, Metric, Round, Run, SecureRound, Update
from hansa_core.states import RoundState

EVALUATION = "eval"


@dataclass(frozen=True, slots=True)
class Ancestor:
    """A checkpoint that another one comes from, and the run that made it, if one did."""

    checkpoint: Checkpoint
    run_name: str | None


@dataclass(frozen=True, slots=True)
class Made:
    """The checkpoints that a run has made."""

    first: int  # round numbers
    last: int
    count: int


@dataclass(frozen=True, slots=True)
class RunOfModel:
    """A run with the checkpoint that it starts from, and its newest evaluation."""

    run: Run
    base: Checkpoint
    metric: Metric | None


def ancestors(session: Session, checkpoint: Checkpoint, *, limit: int) -> list[Ancestor]:
    """Return the checkpoints that this one comes from, nearest first."""
    if checkpoint.parent_id is None:
        return []
    start = select(Checkpoint.id, Checkpoint.parent_id, literal(1).label("steps"))
    line = start.where(Checkpoint.id == checkpoint.parent_id).cte("line", recursive=True)
    older = aliased(Checkpoint)
    line = line.union_all(
        select(older.id, older.parent_id, line.c.steps + 1).where(
            older.id == line.c.parent_id, line.c.steps < limit
        )
    )
    query = (
        select(Checkpoint, Run.name)
        .join(line, line.c.id == Checkpoint.id)
        .outerjoin(Run, Run.id == Checkpoint.run_id)
        .order_by(line.c.steps)
    )
    return [Ancestor(*row) for row in session.execute(query)]


def contributors(session: Session, run_id: UUID, *, up_to: int) -> int:
    """Return how many sites' updates counted in the run's completed rounds up to that number."""
    query = (
        select(func.count(Update.site_id.distinct()))
        .join(Round, Round.id == Update.round_id)
        .where(Round.run_id == run_id, Round.number <= up_to, Round.state == RoundState.COMPLETED)
    )
    return session.execute(query).scalar_one()


def examples(session: Session, round_id: UUID) -> int | None:
    """Return how many examples the updates of a round were trained on; None: nobody told.

    Of a secure round the sum says it.
    """
    secure = session.get(SecureRound, round_id)
    if secure is not None:
        return None if secure.totals is None else int(secure.totals["weight"])
    query = select(func.count(), func.sum(Update.num_examples)).where(Update.round_id == round_id)
    count, told = session.execute(query).one()
    return int(told) if count else None


def means(session: Session, run_id: UUID, round_number: int) -> Sequence[Metric]:
    """Return the means over sites that describe one checkpoint of a run, evaluations first."""
    query = select(Metric).where(
        Metric.run_id == run_id, Metric.round_number == round_number, Metric.site_id.is_(None)
    )
    return session.scalars(query.order_by(Metric.kind, Metric.name)).all()


def newest_run_from(session: Session, checkpoint: Checkpoint) -> UUID | None:
    """Return the newest run that starts from the checkpoint and has evaluated it."""
    evaluated = (
        select(Metric.id)
        .where(
            Metric.run_id == Run.id,
            Metric.round_number == 0,
            Metric.kind == EVALUATION,
            Metric.site_id.is_(None),
        )
        .exists()
    )
    query = select(Run.id).where(
        Run.federation_id == checkpoint.federation_id,
        Run.base_checkpoint_id == checkpoint.id,
        evaluated,
    )
    return session.scalars(query.order_by(Run.id.desc()).limit(1)).one_or_none()


def runs_of_model(
    session: Session, federation_id: UUID, model_id: UUID, *, limit: int
) -> list[RunOfModel]:
    """Return the model's newest runs, newest first, each with its newest evaluation's headline.

    That is the mean loss over sites, or the first metric by name where there is no loss.
    """
    newest = (
        select(Metric)
        .where(Metric.run_id == Run.id, Metric.kind == EVALUATION, Metric.site_id.is_(None))
        .order_by(
            Metric.round_number.desc(), case((Metric.name == "loss", 0), else_=1), Metric.name
        )
        .limit(1)
        .lateral()
    )
    headline = aliased(Metric, newest)
    query = (
        select(Run, Checkpoint, headline)
        .join(Checkpoint, Checkpoint.id == Run.base_checkpoint_id)
        .outerjoin(headline, true())
        .where(Run.federation_id == federation_id, Run.model_id == model_id)
        .order_by(Run.id.desc())
        .limit(limit)
    )
    return [RunOfModel(*row) for row in session.execute(query)]


def made_by_runs(session: Session, run_ids: Sequence[UUID], model_id: UUID) -> dict[UUID, Made]:
    """Return what each of the runs has made of the model; those that made nothing are left out."""
    query = (
        select(
            Checkpoint.run_id,
            func.min(Checkpoint.round_number),
            func.max(Checkpoint.round_number),
            func.count(),
        )
        .where(Checkpoint.model_id == model_id, Checkpoint.run_id.in_(run_ids))
        .group_by(Checkpoint.run_id)
    )
    return {run_id: Made(*made) for run_id, *made in session.execute(query)}


def uploaded(
    session: Session, model_id: UUID, *, limit: int
) -> list[tuple[Checkpoint, Checkpoint | None]]:
    """Return the model's newest checkpoints that no run made, with their parents."""
    parent = aliased(Checkpoint)
    query = (
        select(Checkpoint, parent)
        .outerjoin(parent, parent.id == Checkpoint.parent_id)
        .where(Checkpoint.model_id == model_id, Checkpoint.run_id.is_(None))
        .order_by(Checkpoint.id.desc())
        .limit(limit)
    )
    return [(checkpoint, older) for checkpoint, older in session.execute(query)]
