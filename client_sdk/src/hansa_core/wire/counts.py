"""What the hub counts for people: of a federation, of a round's tasks, of a site's history."""

from datetime import datetime

from hansa_core.wire.base import Response


class SiteCounts(Response):
    """A federation's sites by state; those online are a part of the active ones."""

    pending: int = 0
    active: int = 0
    online: int = 0
    suspended: int = 0
    revoked: int = 0


class RunCounts(Response):
    """A federation's runs by state."""

    draft: int = 0
    queued: int = 0
    running: int = 0
    paused: int = 0
    completed: int = 0
    failed: int = 0
    cancelled: int = 0


class RoundCounts(Response):
    """A round's tasks by state, whom it left out, and what came back."""

    open: int = 0
    claimed: int = 0
    done: int = 0
    failed: int = 0
    late: int = 0
    cancelled: int = 0
    excluded: int = 0  # sites that were not asked
    bytes_up: int = 0  # updates that count in the round, with their parts


class SiteRecord(Response):
    """What became of everything that a site was ever asked for."""

    asked: int = 0  # tasks, those under way included
    done: int = 0
    failed: int = 0
    late: int = 0
    cancelled: int = 0
    rounds: int = 0  # completed training rounds that its update counted in
    bytes_up: int = 0  # updates with their parts
    last_done_at: datetime | None = None
    reliability: float | None = None  # done / (done + failed + late); None: none of these yet
