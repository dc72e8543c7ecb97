"""Rows of aggregations that are split over workers: their parts, and who works on them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import delete, exists, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import AggregationPart, Round
from hansa_core.states import RoundState


def parts(session: Session, round_id: UUID) -> Sequence[AggregationPart]:
    """Return the round's parts, stage by stage, in order."""
    query = select(AggregationPart).where(AggregationPart.round_id == round_id)
    return session.scalars(query.order_by(AggregationPart.stage, AggregationPart.index)).all()


def add_parts(session: Session, parts: Sequence[AggregationPart]) -> None:
    """Add parts; those that are there already stay as they are."""
    rows = [
        {
            "id": part.id,
            "round_id": part.round_id,
            "stage": part.stage,
            "index": part.index,
            "count": part.count,
        }
        for part in parts
    ]
    session.execute(insert(AggregationPart).values(rows).on_conflict_do_nothing())


def lock_part(session: Session, part_id: UUID) -> tuple[AggregationPart, Round] | None:
    """Return the part and its round, both locked, the round first as everywhere."""
    round_id = session.scalars(
        select(AggregationPart.round_id).where(AggregationPart.id == part_id)
    ).one_or_none()
    if round_id is None:
        return None
    row = session.scalars(
        select(Round)
        .where(Round.id == round_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one()
    part = session.scalars(
        select(AggregationPart)
        .where(AggregationPart.id == part_id)
        .with_for_update(key_share=True)
        .execution_options(populate_existing=True)
    ).one_or_none()
    return None if part is None else (part, row)


def renew_lease(session: Session, part_id: UUID, *, token: UUID, expires_at: datetime) -> bool:
    """Keep a part's lease; False when another worker has it, or it is done."""
    statement = (
        update(AggregationPart)
        .where(
            AggregationPart.id == part_id,
            AggregationPart.lease_token == token,
            AggregationPart.result.is_(None),
        )
        .values(lease_expires_at=expires_at)
        .returning(AggregationPart.id)
    )
    return session.execute(statement).first() is not None


def count_open(session: Session, round_id: UUID) -> int:
    """Return how many of the round's parts are not done."""
    query = select(func.count()).where(
        AggregationPart.round_id == round_id, AggregationPart.result.is_(None)
    )
    return session.execute(query).scalar_one()


def forget(session: Session, round_id: UUID) -> list[dict[str, Any]]:
    """Delete the round's parts; return the results that there were."""
    statement = delete(AggregationPart).where(AggregationPart.round_id == round_id)
    found = session.scalars(statement.returning(AggregationPart.result)).all()
    return [result for result in found if result is not None]


def forget_closed(session: Session) -> None:
    """Delete the parts of rounds that are closed: cancelled while they were aggregated."""
    closed = exists().where(
        Round.id == AggregationPart.round_id, Round.state != RoundState.AGGREGATING
    )
    session.execute(delete(AggregationPart).where(closed))
