"""A federation, a hub that can be killed, a link to it that can be cut, and large files."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.services.transactions import Transactions
from app.settings import Settings
from hansa.client import HansaClient
from hansa.journal import store_tensors
from hansa.transfers import TransferOptions
from hansa.transport import RetryPolicy
from tests.factories import Federation, a_federation
from tests.integration.transfers.hubs import Hub, free_port
from tests.integration.transfers.links import Link

PATIENT = RetryPolicy(attempts=200, first_delay_seconds=0.02, max_delay_seconds=0.2)


@dataclass(frozen=True, slots=True)
class Large:
    """A file of finite random numbers: nothing in it can be compressed away or guessed."""

    path: Path
    digest: str
    size: int  # bytes


Connect = Callable[[str, TransferOptions], HansaClient]


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def hub(settings: Settings, tmp_path: Path) -> Generator[Hub]:
    made = Hub(settings, free_port(), tmp_path / "hub.log")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def link(hub: Hub) -> Generator[Link]:
    with Link(hub.port) as opened:
        yield opened


@pytest.fixture
def connect(federation: Federation) -> Generator[Connect]:
    """Makes clients of the federation's owner."""
    opened: list[HansaClient] = []

    def make(url: str, options: TransferOptions) -> HansaClient:
        made = HansaClient(url, federation.owner.token, retry=PATIENT, transfers=options)
        opened.append(made)
        return made

    yield make
    for made in opened:
        made.close()


def a_file(path: Path, megabytes: int) -> Large:
    """Write one tensor of random bits that are all finite float32."""
    generator = np.random.default_rng(megabytes)
    bits = generator.integers(0, 2**32, megabytes * 2**18, dtype=np.uint32)
    bits &= np.uint32(0xBFFFFFFF)  # an exponent of less than 128
    stored = store_tensors(path, {"w": bits.view(np.float32)})
    return Large(stored.path, stored.digest, stored.size)
