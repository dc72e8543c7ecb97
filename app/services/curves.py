"""Metric curves of runs, with no more points than are drawn."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from math import isfinite
from typing import NamedTuple
from uuid import UUID

from app.db import curves as rows
from app.db.models import Run
from app.domain.curves import chosen_points
from app.domain.errors import NotFoundError
from app.domain.rounds import Reported, means_over_sites
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.plans import RunPlan


class _Curve(NamedTuple):
    """Whose a curve is."""

    run_id: UUID
    kind: str
    name: str


@dataclass(frozen=True, slots=True)
class SitesWanted:
    """Which sites' own numbers are wanted of a run."""

    most: int  # those with the most numbers
    always: frozenset[UUID]  # and these, however few they have


_Points = dict[int, tuple[float, int]]  # by round: a mean, and the examples it rests on


def read(
    tx: Tx,
    federation_id: UUID,
    run_ids: Sequence[UUID],
    *,
    kind: str | None,
    names: Sequence[str],
    points: int,
    sites: SitesWanted | None,
) -> wire.CurveSet:
    """Return the curves of runs, each thinned out to at most `points` rounds.

    `kind` None: both; `names` empty: all metrics. What is left out is chosen by the mean over
    sites; sites have the same rounds. A site that reported in none of these is not among them.

    Raises:
        NotFoundError: the federation has no such run.
    """
    wanted = rows.Wanted(run_ids=run_ids, kind=kind, names=names)
    runs = rows.runs_of(tx.session, federation_id, run_ids)
    missing = [str(run_id) for run_id in run_ids if run_id not in runs]
    if missing:
        raise NotFoundError(f"this federation has no run {', '.join(missing)}")
    drawn = {
        curve: _thinned(means, points) for curve, means in sorted(_means(tx, wanted, runs).items())
    }
    at_sites = _Series({}, {}) if sites is None else _series(tx, wanted, drawn, sites)
    return wire.CurveSet(
        runs=[
            wire.RunCurves(
                run_id=run_id,
                run_name=runs[run_id].name,
                curves=[
                    _curve_view(curve, means, at_sites.curves.get(curve, ()))
                    for curve, means in drawn.items()
                    if curve.run_id == run_id
                ],
                reporting=at_sites.reporting.get(run_id, []),
            )
            for run_id in dict.fromkeys(run_ids)
        ]
    )


def _means(tx: Tx, wanted: rows.Wanted, runs: Mapping[UUID, Run]) -> dict[_Curve, _Points]:
    """Return every curve's means: those on record, and of open rounds what they are so far."""
    curves: dict[_Curve, _Points] = {}
    for mean in rows.means(tx.session, wanted):
        points = curves.setdefault(_Curve(mean.run_id, mean.kind, mean.name), {})
        points[mean.round_number] = (mean.value, mean.num_examples)
    reports = rows.reports_without_means(tx.session, wanted)
    for (run_id, kind, number), group in _by_round(reports):
        central = set(RunPlan.model_validate(runs[run_id].plan).evaluation.evaluators)
        so_far = means_over_sites(
            (Reported(it.site_name, it.name, it.value, it.num_examples) for it in group), central
        )
        for name, mean in so_far.items():
            curves.setdefault(_Curve(run_id, kind, name), {})[number] = mean
    return curves


def _by_round(
    reports: Iterable[rows.Report],
) -> Iterable[tuple[tuple[UUID, str, int], Iterable[rows.Report]]]:
    def round_of(report: rows.Report) -> tuple[UUID, str, int]:
        return report.run_id, report.kind, report.round_number

    return groupby(sorted(reports, key=round_of), key=round_of)


def _thinned(means: _Points, points: int) -> _Points:
    """Return at most so many of a curve's points, by ascending round."""
    numbers = sorted(means)
    kept = chosen_points(numbers, [means[number][0] for number in numbers], points)
    return {numbers[index]: means[numbers[index]] for index in kept}


class _Series(NamedTuple):
    """What sites reported of their own."""

    curves: dict[_Curve, list[wire.SiteCurve]]
    reporting: dict[UUID, list[wire.ReportingSite]]  # by run


def _series(
    tx: Tx, wanted: rows.Wanted, drawn: Mapping[_Curve, _Points], sites: SitesWanted
) -> _Series:
    """Return, by the site's name, what sites reported in the rounds that are drawn."""
    numbers: dict[UUID, set[int]] = {}
    for curve, means in drawn.items():
        numbers.setdefault(curve.run_id, set()).update(means)
    found = rows.series_of_sites(
        tx.session, wanted, {run_id: sorted(some) for run_id, some in numbers.items()}
    )
    names = rows.site_names(tx.session, {it.site_id for it in found})
    shown = _shown(found, names, sites)
    series: dict[_Curve, list[wire.SiteCurve]] = {}
    for it in sorted(found, key=lambda some: names[some.site_id]):
        if it.site_id not in shown[it.run_id]:
            continue
        curve = _Curve(it.run_id, it.kind, it.name)
        values = dict(zip(it.rounds, it.values, strict=True))
        aligned = [_finite(values.get(number)) for number in drawn.get(curve, ())]
        if any(value is not None for value in aligned):
            series.setdefault(curve, []).append(
                wire.SiteCurve(site_id=it.site_id, site_name=names[it.site_id], values=aligned)
            )
    reporting = {
        run_id: [
            wire.ReportingSite(site_id=site_id, site_name=names[site_id])
            for site_id in sorted(
                {it.site_id for it in found if it.run_id == run_id}, key=names.__getitem__
            )
        ]
        for run_id in shown
    }
    return _Series(series, reporting)


def _shown(
    found: Sequence[rows.SiteSeries], names: Mapping[UUID, str], sites: SitesWanted
) -> dict[UUID, frozenset[UUID]]:
    """Return, by run, the sites whose curves are told."""
    counts: dict[UUID, Counter[UUID]] = {}
    for it in found:
        counts.setdefault(it.run_id, Counter())[it.site_id] += len(it.rounds)
    return {
        run_id: sites.always.union(
            sorted(of_sites, key=lambda some: (-of_sites[some], names[some]))[: sites.most]
        )
        for run_id, of_sites in counts.items()
    }


def _curve_view(curve: _Curve, means: _Points, sites: Sequence[wire.SiteCurve]) -> wire.MetricCurve:
    return wire.MetricCurve(
        kind=curve.kind,
        name=curve.name,
        rounds=list(means),
        aggregated=[_finite(value) for value, _ in means.values()],
        examples=[examples for _, examples in means.values()],
        sites=list(sites),
    )


def _finite(value: float | None) -> float | None:
    return value if value is not None and isfinite(value) else None
