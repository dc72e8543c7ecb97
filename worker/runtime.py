"""What a worker process works with: composed once in each process, after the fork."""

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import lru_cache

from app.senders.outgoing import Outlets
from app.services.housekeeping import Leases
from app.services.transactions import Transactions
from app.settings import Settings, get_settings
from app.storage import open_artifacts
from app.storage.artifacts import Artifacts


@dataclass(slots=True)
class Health:
    """What a process remembers of the hub's outages, to ask the database less often."""

    well_until: datetime | None = None  # as housekeeping.forgive_outage said last


@dataclass(frozen=True, slots=True)
class Runtime:
    """One worker process's connections."""

    settings: Settings
    transactions: Transactions
    artifacts: Artifacts
    outlets: Outlets
    health: Health = field(default_factory=Health)

    @property
    def online_for(self) -> timedelta:
        """How long after its last sign a site counts as present."""
        return timedelta(seconds=self.settings.site_online_seconds)

    @property
    def aggregation_lease(self) -> timedelta:
        """How long a worker holds an aggregation, or a part of one, without a renewal."""
        return timedelta(seconds=self.settings.aggregation_lease_seconds)

    @property
    def leases(self) -> Leases:
        """How long fresh leases are."""
        return Leases(
            of_tasks=timedelta(seconds=self.settings.task_lease_seconds),
            of_rounds=self.aggregation_lease,
        )

    @property
    def orphan_grace(self) -> timedelta:
        """How long a blob may be stored before something has to name it."""
        return timedelta(hours=self.settings.orphan_grace_hours)


@lru_cache
def runtime() -> Runtime:
    """Return this process's runtime."""
    settings = get_settings()
    return Runtime(
        settings,
        Transactions.from_settings(settings),
        open_artifacts(settings),
        Outlets.from_settings(settings),
    )


def close_runtime() -> None:
    """Close what `runtime` opened, if it did."""
    if runtime.cache_info().currsize:
        runtime().transactions.dispose()
        runtime.cache_clear()
