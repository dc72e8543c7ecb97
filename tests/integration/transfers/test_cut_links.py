"""Links that are cut, hubs and sites that are killed: what was sent once is not sent again."""

import math
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from hansa.client import HansaClient
from hansa.transfers import Throttle, TransferOptions, downloads
from hansa_core import wire
from tests.factories import Federation
from tests.integration.transfers.conftest import Connect, Large, a_file
from tests.integration.transfers.hubs import ROOT, Hub
from tests.integration.transfers.links import Link

MIB = 2**20
MODEL = "large"
CUTS, KILLS = 10, 2
FLAT_BYTES = 128 * MIB  # of the hub's resident memory, beyond what it has when idle
GIGABYTE = "HANSA_TEST_GIGABYTE"  # set: the same with a file of 1 GiB, and chunks as in life


def sizes() -> list[object]:
    full = pytest.mark.skipif(not os.environ.get(GIGABYTE), reason=f"{GIGABYTE} is not set")
    return [
        pytest.param(96, MIB // 4, id="96MiB"),
        pytest.param(1024, 4 * MIB, id="1GiB", marks=full),
    ]


def in_background(work: Callable[[], object]) -> tuple[threading.Thread, list[BaseException]]:
    """Start `work` in a thread; what it raises is in the list once it ended."""
    failures: list[BaseException] = []

    def run() -> None:
        try:
            work()
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, failures


def upload(client: HansaClient, federation: Federation, file: Large) -> wire.Checkpoint:
    return client.upload_checkpoint(federation.slug, MODEL, file.path)


def a_model_of(client: HansaClient, federation: Federation) -> None:
    client.create_model(federation.slug, MODEL)


@pytest.mark.parametrize(("megabytes", "chunk_bytes"), sizes())
def test_ten_cuts_and_two_kills_cost_less_than_a_tenth(
    megabytes: int,
    chunk_bytes: int,
    federation: Federation,
    hub: Hub,
    link: Link,
    connect: Connect,
    tmp_path: Path,
) -> None:
    file = a_file(tmp_path / "large.safetensors", megabytes)
    client = connect(link.url, TransferOptions(chunk_bytes=chunk_bytes))
    a_model_of(client, federation)
    begun, idle = link.sent, hub.resident
    resident: list[int] = []
    made: list[wire.Checkpoint] = []
    sending, failures = in_background(lambda: made.append(upload(client, federation, file)))
    events = CUTS + KILLS
    for event in range(1, events + 1):
        mark = begun + event * file.size // (events + 1)
        link.wait_until(lambda mark=mark: link.sent >= mark or bool(failures))
        resident.append(hub.resident)
        if event % (events // KILLS) == 0:
            hub.kill()
            hub.start()
        else:
            link.cut()
    sending.join(600)
    assert not failures, failures
    assert [checkpoint.digest for checkpoint in made] == [file.digest]
    sent = link.sent - begun
    assert sent < 1.1 * file.size, f"sent {sent / file.size:.3f} times its size"
    sys.stdout.write(f"sent {sent / file.size:.3f} times {file.size} bytes\n")
    assert max(resident) - idle < FLAT_BYTES


def test_two_damaged_chunks_are_sent_again(
    federation: Federation, link: Link, connect: Connect, tmp_path: Path
) -> None:
    file = a_file(tmp_path / "large.safetensors", 8)
    client = connect(link.url, TransferOptions(chunk_bytes=MIB, upload=Throttle(10e6)))
    a_model_of(client, federation)
    begun = link.sent
    sending, failures = in_background(lambda: upload(client, federation, file))
    for part in (1, 5):
        link.wait_until(lambda part=part: link.sent - begun > part * MIB)
        link.spoil(1)
    sending.join(60)
    assert not failures, failures
    assert link.spoilt == 2
    assert file.size + 2 * MIB < link.sent - begun < file.size + 2.5 * MIB
    assert client.model(federation.slug, MODEL).latest_checkpoint_id is not None


KILLED_UPLOAD = """
import sys
from pathlib import Path
from hansa.client import HansaClient
from hansa.transfers import Throttle, TransferOptions
url, token, slug, path = sys.argv[1:]
options = TransferOptions(chunk_bytes=2**18, upload=Throttle(20e6))
HansaClient(url, token, transfers=options).upload_checkpoint(slug, "large", Path(path))
"""

KILLED_DOWNLOAD = """
import sys
from pathlib import Path
from uuid import UUID
from hansa.client import HansaClient
from hansa.transfers import Throttle, TransferOptions
url, token, slug, path, checkpoint = sys.argv[1:]
options = TransferOptions(chunk_bytes=2**18, download=Throttle(20e6))
client = HansaClient(url, token, transfers=options)
client.download_checkpoint(slug, UUID(checkpoint), Path(path))
"""


def killed_when(link: Link, reached: Callable[[], bool], script: str, *arguments: str) -> None:
    """Run a script in a process and kill it once the link is that far."""
    process = subprocess.Popen(  # noqa: S603 -- our own interpreter
        [sys.executable, "-c", script, *arguments], cwd=ROOT
    )
    try:
        link.wait_until(lambda: reached() or process.poll() is not None)
        assert process.poll() is None
    finally:
        process.kill()
        process.wait()


def test_an_upload_goes_on_after_its_process_was_killed(
    federation: Federation, link: Link, connect: Connect, tmp_path: Path
) -> None:
    file = a_file(tmp_path / "large.safetensors", 24)
    client = connect(link.url, TransferOptions(chunk_bytes=MIB // 4))
    a_model_of(client, federation)
    begun = link.sent
    arguments = (link.url, federation.owner.token, federation.slug, str(file.path))
    half = begun + file.size // 2
    killed_when(link, lambda: link.sent > half, KILLED_UPLOAD, *arguments)
    told: list[int] = []
    client.upload_checkpoint(federation.slug, MODEL, file.path, on_bytes=told.append)
    assert told[0] > file.size * 0.4
    assert told[-1] == file.size
    assert link.sent - begun < 1.1 * file.size


def test_a_download_goes_on_after_its_process_was_killed(
    federation: Federation, link: Link, connect: Connect, tmp_path: Path
) -> None:
    file = a_file(tmp_path / "large.safetensors", 24)
    client = connect(link.url, TransferOptions(chunk_bytes=MIB // 4))
    a_model_of(client, federation)
    checkpoint = upload(client, federation, file)
    target = tmp_path / "got.safetensors"
    begun = link.received
    arguments = (link.url, federation.owner.token, federation.slug, str(target), str(checkpoint.id))
    half = begun + file.size // 2
    killed_when(link, lambda: link.received > half, KILLED_DOWNLOAD, *arguments)
    link.cut()
    resumed = link.received
    client.download_checkpoint(federation.slug, checkpoint.id, target)
    assert target.read_bytes() == file.path.read_bytes()
    assert link.received - resumed < 0.6 * file.size
    assert link.received - begun < 1.1 * file.size
    assert sorted(path.name for path in tmp_path.glob("got*")) == ["got.safetensors"]


@pytest.mark.parametrize(
    ("fast_link", "rate", "most"),
    [
        pytest.param(0.0, None, 2.0, id="one range"),  # what was in buffers is lost
        pytest.param(math.inf, 40e6, 1.15, id="ranges"),
    ],
)
def test_a_download_outlives_cuts(
    fast_link: float,
    rate: float | None,
    most: float,
    federation: Federation,
    link: Link,
    connect: Connect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(downloads, "FAST_LINK", fast_link)
    file = a_file(tmp_path / "large.safetensors", 24)
    options = TransferOptions(chunk_bytes=MIB // 4, download=Throttle(rate))
    client = connect(link.url, options)
    a_model_of(client, federation)
    checkpoint = upload(client, federation, file)
    target = tmp_path / "got.safetensors"
    begun = link.received
    fetching, failures = in_background(
        lambda: client.download_checkpoint(federation.slug, checkpoint.id, target)
    )
    for part in (1, 2, 3):
        mark = begun + part * file.size // 4
        link.wait_until(lambda mark=mark: link.received > mark or bool(failures))
        link.cut()
    fetching.join(60)
    assert not failures, failures
    assert target.read_bytes() == file.path.read_bytes()
    assert link.received - begun < most * file.size
