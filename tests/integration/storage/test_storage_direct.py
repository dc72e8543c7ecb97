"""Bytes between the SDK and a store that checks signatures, past the hub."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import httpx2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from app.services.transactions import Transactions
from app.settings import Settings
from hansa.client import HansaClient
from hansa.errors import BadAnswerError
from hansa.journal import store_tensors
from hansa.stores import at_store
from hansa.transfers import TransferOptions
from hansa.transport import RetryPolicy, Transport
from hansa_core.chunks import FOLLOW, STORE
from tests.factories import Federation, a_federation
from tests.integration.storage.places import BUCKET, KEY_ID, SECRET
from tests.integration.transfers.links import Link
from tests.serving import hub_on_a_socket

MIB = 2**20
CHUNK = MIB // 4
QUICK = RetryPolicy(attempts=20, first_delay_seconds=0.01, max_delay_seconds=0.1)


@dataclass(frozen=True, slots=True)
class World:
    """A hub whose store is a bucket, and a link to it that counts."""

    federation: Federation
    hub: str
    link: Link
    client: HansaClient


@pytest.fixture
def settings(settings: Settings, seaweedfs: str) -> Settings:
    return settings.model_copy(
        update={
            "artifacts_url": f"s3://{BUCKET}/{uuid4()}",
            "s3_endpoint": seaweedfs,
            "s3_access_key_id": KEY_ID,
            "s3_secret_access_key": SecretStr(SECRET),
            "s3_presign": True,
        }
    )


@pytest.fixture
def world(client: TestClient, transactions: Transactions, settings: Settings) -> Generator[World]:
    federation = a_federation(client, transactions, settings)
    with (
        hub_on_a_socket(settings) as hub,
        Link(int(hub.rpartition(":")[2])) as link,
        HansaClient(
            link.url,
            federation.owner.token,
            retry=QUICK,
            transfers=TransferOptions(chunk_bytes=CHUNK),
        ) as sdk,
    ):
        sdk.create_model(federation.slug, "large")
        yield World(federation, hub, link, sdk)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    numbers = np.random.default_rng(7).standard_normal(MIB, dtype=np.float32)
    return store_tensors(tmp_path / "large.safetensors", {"w": numbers}).path


def test_a_model_goes_up_and_down_past_the_hub(world: World, source: Path, tmp_path: Path) -> None:
    slug = world.federation.slug
    checkpoint = world.client.upload_checkpoint(slug, "large", source)
    assert world.link.sent < CHUNK  # questions, no chunks
    target = tmp_path / "got.safetensors"
    world.client.download_checkpoint(slug, checkpoint.id, target)
    assert target.read_bytes() == source.read_bytes()
    assert world.link.received < CHUNK


def test_the_hub_passes_the_bytes_on_for_who_wants_that(
    world: World, source: Path, tmp_path: Path
) -> None:
    slug, target = world.federation.slug, tmp_path / "got.safetensors"
    options = TransferOptions(chunk_bytes=CHUNK, direct=False, compress=False)
    with HansaClient(
        world.link.url, world.federation.owner.token, retry=QUICK, transfers=options
    ) as client:
        checkpoint = client.upload_checkpoint(slug, "large", source)
        assert world.link.sent > source.stat().st_size
        client.download_checkpoint(slug, checkpoint.id, target)
    assert target.read_bytes() == source.read_bytes()
    assert world.link.received > source.stat().st_size


def test_only_who_follows_is_redirected_and_the_address_has_no_token(
    world: World, source: Path
) -> None:
    slug = world.federation.slug
    checkpoint = world.client.upload_checkpoint(slug, "large", source)
    path = f"{world.hub}/v1/federations/{slug}/checkpoints/{checkpoint.id}/content"
    headers = world.federation.owner.headers
    plain = httpx2.get(path, headers=headers)
    assert (plain.status_code, plain.content) == (200, source.read_bytes())
    answer = httpx2.get(path, headers=headers | {FOLLOW: STORE})
    assert (answer.status_code, answer.content) == (307, b"")
    assert answer.headers["Cache-Control"] == "no-store"
    assert world.federation.owner.token not in answer.headers["Location"]
    assert httpx2.get(answer.headers["Location"]).content == source.read_bytes()
    head = httpx2.head(path, headers=headers | {FOLLOW: STORE})
    assert head.status_code == 200


def test_a_store_without_tls_is_not_used_beside_a_hub_with() -> None:
    with Transport("https://hub.example") as transport:
        opened = at_store(
            transport.bulk, transport.url, "GET", "http://store.example/x?secret", headers={}
        )
        with pytest.raises(BadAnswerError, match=r"http://store\.example/x', wanted https://"):
            opened.__enter__()
