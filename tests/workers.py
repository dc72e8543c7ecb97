"""A worker's own tasks, called in the test's process on the test's own hub."""

from collections.abc import Generator
from contextlib import contextmanager

import pytest

from app.settings import Settings, get_settings
from worker.runtime import close_runtime


@contextmanager
def worker_of(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    """Let the tasks of `worker.tasks` work with `settings` while the block runs.

    Import them inside of it: the Celery application reads the environment once.
    """
    secrets = {"database_url", "redis_url", "signing_key"}
    for name in ("database_url", "redis_url", "signing_key", "artifacts_url", "min_free_bytes"):
        value = getattr(settings, name)
        text = value.get_secret_value() if name in secrets else str(value)
        monkeypatch.setenv(f"HANSA_{name.upper()}", text)
    get_settings.cache_clear()
    close_runtime()
    try:
        yield
    finally:
        close_runtime()
        get_settings.cache_clear()
