"""A federation of four sites that hold secure rounds, and a worker."""

from collections.abc import Generator

import pytest
from fastapi.testclient import TestClient

from app.services.transactions import Transactions
from app.settings import Settings
from tests.factories import (
    Federation,
    a_federation,
    a_model,
)
from tests.secure_sites import (
    NAMES,
    SecureSite,
    secure_sites,
)
from tests.tensors import BASE
from tests.workers import worker_of


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    made = a_federation(client, transactions, settings)
    a_model(made)
    return made


@pytest.fixture
def sites(federation: Federation) -> list[SecureSite]:
    return secure_sites(federation, dict(BASE), *NAMES)


@pytest.fixture(autouse=True)
def worker(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Generator[None]:
    with worker_of(settings, monkeypatch):
        yield
