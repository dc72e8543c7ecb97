"""What a console shows first: a federation at a glance, and what a site was asked for."""

from datetime import datetime
from uuid import UUID

from hansa_core.states import RoundKind
from hansa_core.wire.base import Response
from hansa_core.wire.counts import RunCounts, SiteCounts
from hansa_core.wire.resources import Federation, TaskView


class Overview(Response):
    """A federation at a glance."""

    federation: Federation
    sites: SiteCounts
    runs: RunCounts
    open_alerts: int
    worst_alert: str | None = None  # the highest severity among the open: info, warning, critical
    rounds_completed: int  # training rounds, of all its runs
    last_event_at: datetime | None = None


class SiteTask(Response):
    """A task of a site, and where it belongs."""

    run_id: UUID
    run_name: str
    round_number: int
    kind: RoundKind  # what the site was asked for; an evaluator evaluates in a training round
    task: TaskView
