"""A hub that plays its part of the protocol, and a real site enrolled at it."""

from collections.abc import Generator
from pathlib import Path

import pytest

from hansa.identity import StateDir
from tests.unit.client.fake_hub import serving
from tests.unit.client.secure.hubs import SecureHub
from tests.unit.client.secure.sites import a_site, model_bytes


@pytest.fixture
def hub() -> Generator[SecureHub]:
    made = SecureHub()
    with serving(made):
        yield made


@pytest.fixture
def state(hub: SecureHub, tmp_path: Path) -> StateDir:
    return a_site(hub, tmp_path)


@pytest.fixture
def model(tmp_path: Path) -> bytes:
    return model_bytes(tmp_path)
