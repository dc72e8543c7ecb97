"""When something was last done by any of the hub's processes: one row for each kind of work."""

from datetime import datetime, timedelta

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import Mark


def last(session: Session, name: str) -> datetime | None:
    """Return when it was last done; None: never."""
    return session.scalars(select(Mark.at).where(Mark.name == name)).one_or_none()


def advance(session: Session, name: str, *, now: datetime) -> datetime:
    """Say that it is done at `now`; return when it was before, `now` the first time.

    The row stays locked until the commit, so each stretch of time between two marks is seen by
    one process. A mark never goes back.
    """
    session.execute(insert(Mark).values(name=name, at=now).on_conflict_do_nothing())
    mark = session.scalars(
        select(Mark)
        .where(Mark.name == name)
        .with_for_update()
        .execution_options(populate_existing=True)
    ).one()
    before = mark.at
    mark.at = max(before, now)
    return before


def claim(session: Session, name: str, *, now: datetime, every: timedelta) -> bool:
    """Take the work for this process; False when it was taken less than `every` ago."""
    statement = insert(Mark).values(name=name, at=now)
    statement = statement.on_conflict_do_update(
        index_elements=["name"],
        set_={"at": statement.excluded.at},
        where=Mark.at <= now - every,
    )
    return session.execute(statement.returning(Mark.name)).first() is not None
