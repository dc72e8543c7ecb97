"""Rows of metrics: what sites reported, and the means over sites."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import Metric, Site


@dataclass(frozen=True, slots=True)
class NewMetric:
    """One number, not stored yet."""

    run_id: UUID
    round_number: int  # of the checkpoint that it describes
    kind: str  # "train" or "eval"
    name: str
    site_id: UUID | None  # None: the mean over sites
    value: float
    num_examples: int


@dataclass(frozen=True, slots=True)
class SiteMetric:
    """A metric with the name of its site; None is the mean over sites."""

    metric: Metric
    site_name: str | None


def put(session: Session, metrics: Sequence[NewMetric]) -> None:
    """Store metrics. A round that is held again reports again: the newer number stands."""
    if not metrics:
        return
    statement = insert(Metric).values([asdict(metric) for metric in metrics])
    session.execute(
        statement.on_conflict_do_update(
            index_elements=["run_id", "round_number", "kind", "name", "site_id"],
            set_={
                "value": statement.excluded.value,
                "num_examples": statement.excluded.num_examples,
            },
        )
    )


def of_sites(
    session: Session, run_id: UUID, *, kind: str, round_number: int
) -> Sequence[SiteMetric]:
    """Return what the sites reported, without the means."""
    query = (
        select(Metric, Site.name)
        .join(Site, Site.id == Metric.site_id)
        .where(Metric.run_id == run_id, Metric.kind == kind, Metric.round_number == round_number)
    )
    return [SiteMetric(*row) for row in session.execute(query.order_by(Metric.id))]


def means(session: Session, run_id: UUID, *, kind: str, name: str) -> list[tuple[int, float]]:
    """Return (round number, mean over sites) of one metric, ascending."""
    query = select(Metric.round_number, Metric.value).where(
        Metric.run_id == run_id,
        Metric.kind == kind,
        Metric.name == name,
        Metric.site_id.is_(None),
    )
    return [
        (number, value) for number, value in session.execute(query.order_by(Metric.round_number))
    ]


def list_metrics(session: Session, run_id: UUID, *, after: int, limit: int) -> list[SiteMetric]:
    """Return metrics with the site's name, in the order they came."""
    query = (
        select(Metric, Site.name)
        .outerjoin(Site, Site.id == Metric.site_id)
        .where(Metric.run_id == run_id, Metric.id > after)
    )
    return [SiteMetric(*row) for row in session.execute(query.order_by(Metric.id).limit(limit))]
