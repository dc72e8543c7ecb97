"""Metric curves of runs, thinned out for drawing."""

from uuid import UUID

from hansa_core.wire.base import Response


class SiteCurve(Response):
    """One site's part of a curve."""

    site_id: UUID
    site_name: str
    values: list[float | None]  # aligned with the curve's rounds; None: no number of that round


class MetricCurve(Response):
    """One metric over the rounds of a run, of which so many are left out that it can be drawn."""

    kind: str  # "train": local training; "eval": a checkpoint on held-out data
    name: str
    rounds: list[int]  # ascending; n names the checkpoint that round n made, 0 the base
    # Aligned with `rounds`. The mean over sites weighted by examples, or what a secure sum says.
    # Of a round that is still open: of the sites that have reported.
    aggregated: list[float | None]
    examples: list[int | None]  # that the mean rests on
    sites: list[SiteCurve]  # by name; empty unless asked for


class ReportingSite(Response):
    """A site that has a curve, drawn or not."""

    site_id: UUID
    site_name: str


class RunCurves(Response):
    """All curves of one run that were asked for."""

    run_id: UUID
    run_name: str
    curves: list[MetricCurve]  # by kind and name
    # Every site that reported, by name; of more than were asked for, those with the most numbers
    # have curves. Empty unless curves of sites were asked for.
    reporting: list[ReportingSite]


class CurveSet(Response):
    """Curves of several runs, in the order in which the runs were named."""

    runs: list[RunCurves]
