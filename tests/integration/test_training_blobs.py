"""Blobs over HTTP: ranges and conditions, refusals that arrive, and memory that stays flat."""

import hashlib
import os
import socket
import subprocess
import sys
from collections.abc import Generator, Iterator
from pathlib import Path

import httpx2
import numpy as np
import psutil
import pytest
from fastapi.testclient import TestClient

from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core.tensors import Layout, encode_header
from tests.factories import (
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_run,
    sites_online,
    work_off,
)
from tests.tensors import BASE, digest_of, encode

MIB = 2**20
LARGE = 32 * MIB
HUGE = 256 * MIB
MOST_GROWTH = 64 * MIB  # of the hub's resident memory, whatever the blob
DATA = encode(BASE)


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def blob(federation: Federation) -> str:
    """The path of a stored blob."""
    a_model(federation)
    return f"/v1/federations/{federation.slug}/artifacts/{digest_of(DATA)}"


@pytest.fixture
def hub(settings: Settings) -> Generator[tuple[str, psutil.Process]]:
    """The address of a hub in a process of its own, and that process."""
    listening = socket.create_server(("127.0.0.1", 0), backlog=64)
    command = [sys.executable, "-m", "uvicorn", "--factory", "app.main:create_app"]
    environment = {
        "HANSA_DATABASE_URL": settings.database_url.get_secret_value(),
        "HANSA_REDIS_URL": settings.redis_url.get_secret_value(),
        "HANSA_ARTIFACTS_URL": settings.artifacts_url,
        "HANSA_SIGNING_KEY": settings.signing_key.get_secret_value(),
        "HANSA_MAX_ARTIFACT_BYTES": str(HUGE + MIB),
    }
    with listening:
        process = subprocess.Popen(  # noqa: S603 -- our own interpreter
            [*command, "--fd", str(listening.fileno()), "--log-level", "warning"],
            env=os.environ | environment,
            pass_fds=[listening.fileno()],
            cwd=Path(__file__).parents[2],
        )
        port = listening.getsockname()[1]
    try:
        yield f"http://127.0.0.1:{port}", psutil.Process(process.pid)
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            process.kill()


def zeros(size: int) -> tuple[bytes, Layout]:
    """Return the header and layout of a file with one tensor of `size` bytes."""
    layout = Layout.of({"w": np.broadcast_to(np.zeros((), np.float32), (size // 4,))})
    return encode_header(layout), layout


def test_a_blob_is_sent_whole_with_its_digest_as_the_entity_tag(
    federation: Federation, blob: str
) -> None:
    answer = federation.client.get(blob, headers=federation.owner.headers)
    assert (answer.status_code, answer.content) == (200, DATA)
    assert answer.headers["ETag"] == f'"{digest_of(DATA)}"'
    assert answer.headers["Content-Length"] == str(len(DATA))
    assert answer.headers["Accept-Ranges"] == "bytes"
    known = federation.owner.headers | {"If-None-Match": answer.headers["ETag"]}
    again = federation.client.get(blob, headers=known)
    assert (again.status_code, again.content) == (304, b"")
    other = federation.owner.headers | {"If-None-Match": '"something-else"'}
    assert federation.client.get(blob, headers=other).status_code == 200


def test_head_tells_the_same_without_the_bytes(federation: Federation, blob: str) -> None:
    whole = federation.client.get(blob, headers=federation.owner.headers)
    head = federation.client.head(blob, headers=federation.owner.headers)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("Content-Length", "ETag", "Content-Type", "Accept-Ranges"):
        assert head.headers[name] == whole.headers[name]


def test_one_range_is_sent(federation: Federation, blob: str) -> None:
    wanted = {
        "bytes=0-": (0, len(DATA)),
        "bytes=0-0": (0, 1),
        "bytes=8-19": (8, 20),
        "bytes=100-99999999": (100, len(DATA)),
        "bytes=-5": (len(DATA) - 5, len(DATA)),
        "bytes=-99999999": (0, len(DATA)),
    }
    for asked, (start, stop) in wanted.items():
        headers = federation.owner.headers | {"Range": asked}
        answer = federation.client.get(blob, headers=headers)
        assert (answer.status_code, answer.content) == (206, DATA[start:stop]), asked
        assert answer.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{len(DATA)}"
        assert answer.headers["Content-Length"] == str(stop - start)


def test_a_range_of_another_version_gives_the_whole(federation: Federation, blob: str) -> None:
    headers = federation.owner.headers | {"Range": "bytes=5-9", "If-Range": '"older"'}
    answer = federation.client.get(blob, headers=headers)
    assert (answer.status_code, answer.content) == (200, DATA)
    headers["If-Range"] = f'"{digest_of(DATA)}"'
    assert federation.client.get(blob, headers=headers).content == DATA[5:10]


def test_a_range_that_is_not_there_is_refused(federation: Federation, blob: str) -> None:
    wrong = (
        f"bytes={len(DATA)}-",
        "bytes=9-8",
        "bytes=-0",
        "bytes=-",
        "bytes=a-b",
        "bytes=0-1,3-4",
        f"bytes={'9' * 5000}-",
    )
    for asked in wrong:
        headers = federation.owner.headers | {"Range": asked}
        answer = federation.client.get(blob, headers=headers)
        assert (answer.status_code, answer.json()["slug"]) == (416, "range-not-satisfiable"), asked


def test_a_blob_of_another_federation_is_not_found(
    federation: Federation, blob: str, transactions: Transactions, settings: Settings
) -> None:
    other = a_federation(federation.client, transactions, settings, "baltic")
    path = blob.replace(federation.slug, other.slug)
    assert federation.client.get(path, headers=other.owner.headers).status_code == 404
    assert federation.client.get(blob, headers=other.owner.headers).status_code == 404


def test_a_refused_upload_gets_its_reason_although_the_body_is_large(
    federation: Federation, hub: tuple[str, psutil.Process]
) -> None:
    address, _ = hub
    sites = sites_online(federation, "bergen", "oslo")
    header, layout = zeros(LARGE)
    spoilt = header + np.float32(np.nan).tobytes() + bytes(LARGE - 4)
    a_model(federation, {"w": np.zeros(LARGE // 4, np.float32)})
    assert layout == Layout.of({"w": np.zeros(LARGE // 4, np.float32)})
    a_run(federation)
    work_off(federation)
    task = sites[0].claim()
    with httpx2.Client(base_url=address, timeout=60) as real:
        site = ActiveSite(real, sites[0].identity)
        answer = site.upload(task, spoilt)
        assert (answer.status_code, answer.json()["slug"]) == (422, "update-refused")
        assert "tensor 'w' element 0 is nan" in answer.json()["detail"]
        answer = site.upload(task, spoilt, lease=task.id)
        assert (answer.status_code, answer.json()["slug"]) == (409, "lease-lost")
        stranger = real.put(
            f"/v1/tasks/{task.id}/artifacts/{digest_of(spoilt)}",
            content=spoilt,
            headers={"Authorization": "Bearer hx_nobody", "X-Hansa-Lease": str(task.id)},
        )
        assert (stranger.status_code, stranger.json()["slug"]) == (401, "not-authenticated")
        answer = site.upload(task, encode({"w": np.zeros(LARGE // 4, np.float32)}))
        assert answer.status_code == 200  # the base itself, so known already


def test_the_hubs_memory_does_not_grow_with_the_blob(
    federation: Federation, hub: tuple[str, psutil.Process]
) -> None:
    address, process = hub
    header, _ = zeros(HUGE)
    chunk = bytes(MIB)
    hasher = hashlib.sha256(header)
    for _ in range(HUGE // MIB):
        hasher.update(chunk)
    size = len(header) + HUGE
    resident: list[int] = []

    def body() -> Iterator[bytes]:
        yield header
        for _ in range(HUGE // MIB):
            resident.append(process.memory_info().rss)
            yield chunk

    headers = federation.owner.headers
    folder = f"/v1/federations/{federation.slug}/artifacts"
    with httpx2.Client(base_url=address, timeout=60) as real:
        warm = real.put(f"{folder}/{digest_of(DATA)}", content=DATA, headers=headers)
        assert warm.status_code == 201
        assert real.get(f"{folder}/{digest_of(DATA)}", headers=headers).content == DATA
        before = process.memory_info().rss
        path = f"{folder}/{hasher.hexdigest()}"
        announced = headers | {"Content-Length": str(size)}
        assert real.put(path, content=body(), headers=announced).status_code == 201
        received = hashlib.sha256()
        with real.stream("GET", path, headers=headers) as answer:
            for piece in answer.iter_bytes(MIB):
                received.update(piece)
                resident.append(process.memory_info().rss)
    assert received.hexdigest() == hasher.hexdigest()
    assert len(resident) > 2 * HUGE // MIB - 2
    assert max(resident) - before < MOST_GROWTH
