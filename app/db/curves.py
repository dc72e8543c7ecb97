"""Rows of metrics as series: what curves are drawn from.

A mean over sites is one row with no site, written when its round closes. Reports of a round without
one (it is open, or was burnt) are read themselves; they are few.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

from sqlalchemy import (
    ARRAY,
    CTE,
    ColumnElement,
    Integer,
    SQLColumnExpression,
    and_,
    any_,
    case,
    exists,
    false,
    func,
    literal,
    or_,
    select,
    true,
    tuple_,
)
from sqlalchemy.orm import Session, aliased

from app.db.models import Metric, Round, Run, Site
from hansa_core.states import RoundState

_INTEGERS = ARRAY(Integer)


class Mean(NamedTuple):
    """A mean over sites, as it was recorded."""

    run_id: UUID
    kind: str
    name: str
    round_number: int
    value: float
    num_examples: int


class Report(NamedTuple):
    """What one site reported of a round without recorded means."""

    run_id: UUID
    kind: str
    name: str
    round_number: int
    value: float
    num_examples: int
    site_name: str


class SiteSeries(NamedTuple):
    """One site's numbers of one metric; rounds and values go together, in no order.

    Names of sites come apart from them: with the names, the rows would be sorted.
    """

    run_id: UUID
    kind: str
    name: str
    site_id: UUID
    rounds: list[int]
    values: list[float]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which metrics of which runs."""

    run_ids: Sequence[UUID]
    kind: str | None = None  # None: both
    names: Sequence[str] = ()  # none: all

    def of(
        self, kind: SQLColumnExpression[str], name: SQLColumnExpression[str]
    ) -> ColumnElement[bool]:
        """Return the condition on a row's kind and name."""
        terms: list[ColumnElement[bool]] = [true()]
        if self.kind is not None:
            terms.append(kind == self.kind)
        if self.names:
            terms.append(name.in_(self.names))
        return and_(*terms)


def runs_of(session: Session, federation_id: UUID, run_ids: Sequence[UUID]) -> dict[UUID, Run]:
    """Return those of the runs that the federation has, by id."""
    query = select(Run).where(Run.federation_id == federation_id, Run.id.in_(run_ids))
    return {run.id: run for run in session.scalars(query)}


def means(session: Session, wanted: Wanted) -> Sequence[Mean]:
    """Return the recorded means, by run, round, kind and name.

    A run of 500 rounds has 50 rows of sites to each mean. The index is walked from one (round,
    kind, name) to the next, so none of them is read.
    """
    keys = _keys(wanted.run_ids)
    query = (
        select(
            keys.c.run_id,
            keys.c.kind,
            keys.c.name,
            keys.c.round_number,
            Metric.value,
            Metric.num_examples,
        )
        .join(
            Metric,
            and_(
                Metric.run_id == keys.c.run_id,
                Metric.round_number == keys.c.round_number,
                Metric.kind == keys.c.kind,
                Metric.name == keys.c.name,
                Metric.site_id.is_(None),
            ),
        )
        .where(wanted.of(keys.c.kind, keys.c.name))
    )
    return [Mean(*row) for row in session.execute(query)]


def reports_without_means(session: Session, wanted: Wanted) -> Sequence[Report]:
    """Return the sites' reports of rounds whose mean has not been recorded: none has completed.

    A training round n reports training of number n and the evaluation of number n - 1.
    """
    completed = aliased(Round)
    open_numbers = (
        select(Round.run_id, Round.number)
        .where(
            Round.run_id.in_(wanted.run_ids),
            Round.state != RoundState.COMPLETED,
            ~exists().where(
                completed.run_id == Round.run_id,
                completed.number == Round.number,
                completed.state == RoundState.COMPLETED,
            ),
        )
        .distinct()
        .subquery()
    )
    number = case((Metric.kind == "eval", Metric.round_number + 1), else_=Metric.round_number)
    query = (
        select(
            *(Metric.run_id, Metric.kind, Metric.name, Metric.round_number),
            *(Metric.value, Metric.num_examples, Site.name),
        )
        .join(
            open_numbers,
            and_(
                Metric.run_id == open_numbers.c.run_id,
                Metric.round_number.in_((open_numbers.c.number, open_numbers.c.number - 1)),
                number == open_numbers.c.number,
            ),
        )
        .join(Site, Site.id == Metric.site_id)
        .where(wanted.of(Metric.kind, Metric.name))
    )
    return [Report(*row) for row in session.execute(query)]


def series_of_sites(
    session: Session, wanted: Wanted, rounds: Mapping[UUID, Sequence[int]]
) -> Sequence[SiteSeries]:
    """Return every site's numbers of the rounds that are named for each run."""
    keys = (Metric.run_id, Metric.kind, Metric.name)
    of_rounds = [
        (Metric.run_id == run_id) & (Metric.round_number == any_(literal(numbers, _INTEGERS)))
        for run_id, numbers in rounds.items()
    ]
    query = (
        select(
            *keys,
            Metric.site_id,
            func.array_agg(Metric.round_number),
            func.array_agg(Metric.value),
        )
        .where(
            wanted.of(Metric.kind, Metric.name),
            or_(false(), *of_rounds),
            Metric.site_id.is_not(None),
        )
        .group_by(*keys, Metric.site_id)
    )
    return [SiteSeries(*row) for row in session.execute(query)]


def site_names(session: Session, site_ids: Iterable[UUID]) -> dict[UUID, str]:
    """Return the names of sites by id."""
    query = select(Site.id, Site.name).where(Site.id.in_(site_ids))
    return dict(session.execute(query).tuples().all())


def _keys(run_ids: Sequence[UUID]) -> CTE:
    """Return the (run, round, kind, name) that there are, each by one look into the index."""
    key = tuple_(Metric.round_number, Metric.kind, Metric.name)
    columns = (Metric.round_number, Metric.kind, Metric.name)
    runs = select(Run.id).where(Run.id.in_(run_ids)).subquery()
    first = select(*columns).where(Metric.run_id == runs.c.id).order_by(*columns).limit(1)
    found = select(runs.c.id.label("run_id"), *(first_row := first.lateral()).c)
    keys = found.join_from(runs, first_row, true()).cte("keys", recursive=True)
    following = (
        select(*columns)
        .where(
            Metric.run_id == keys.c.run_id,
            key > tuple_(keys.c.round_number, keys.c.kind, keys.c.name),
        )
        .order_by(*columns)
        .limit(1)
        .lateral()
    )
    return keys.union_all(select(keys.c.run_id, *following.c).join_from(keys, following, true()))
