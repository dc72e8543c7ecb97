"""What a worker process works with: composed once in each process, after the fork."""

from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache

from app.services.transactions import Transactions
from app.settings import Settings, get_settings
from app.storage import open_artifacts
from app.storage.artifacts import Artifacts


@dataclass(frozen=True, slots=True)
class Runtime:
    """One worker process's connections."""

    settings: Settings
    transactions: Transactions
    artifacts: Artifacts

    @property
    def online_for(self) -> timedelta:
        """How long after its last sign a site counts as present."""
        return timedelta(seconds=self.settings.site_online_seconds)


@lru_cache
def runtime() -> Runtime:
    """Return this process's runtime."""
    settings = get_settings()
    return Runtime(settings, Transactions.from_settings(settings), open_artifacts(settings))


def close_runtime() -> None:
    """Close what `runtime` opened, if it did."""
    if runtime.cache_info().currsize:
        runtime().transactions.dispose()
        runtime.cache_clear()
