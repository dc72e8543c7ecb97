"""Killed writers, full disks and memory: what a store does at its limits."""

import hashlib
import os
import shutil
import signal
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from app.storage.artifacts import Artifacts
from tests.integration.storage.places import (
    FEDERATION,
    MIB,
    ROOT,
    Place,
    child_command,
    run_child,
)


def test_killed_writer_leaves_nothing_to_see(artifacts: Artifacts, place: Place) -> None:
    script = """
writer = artifacts.begin(federation)
writer.write(b"x" * 2**20)
print("written", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(  # noqa: S603
        child_command(script),
        env=os.environ | place.environment(),
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"written\n"
        child.send_signal(signal.SIGKILL)
        child.wait(10)
    assert artifacts.stat(FEDERATION, hashlib.sha256(b"x" * MIB).hexdigest()) is None
    assert [name for name in place.stored() if not name.startswith("incoming/")] == []
    artifacts.sweep_incoming(datetime.now(UTC) + timedelta(days=2))
    assert place.stored() == []


def test_memory_does_not_grow_with_the_blob(place: Place) -> None:
    # The peak is compared with the peak after a small blob took the same way.
    script = """
def round_trip(mib):
    digest = hashlib.sha256(b"%d" % mib).hexdigest()
    with artifacts.begin(federation) as writer:
        for number in range(mib):
            writer.write(os.urandom(2**20))
        writer.commit(digest)
    assert sum(map(len, chunks(artifacts, federation, digest))) == mib * 2**20
    buffer = memoryview(bytearray(2**16))
    with artifacts.open(federation, digest) as blob:
        for offset in range(0, blob.size, len(buffer)):
            blob.read_at(buffer, offset)
    # Not ru_maxrss: a child starts with its parent's.
    (peak,) = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    return int(peak.split()[1])

small = round_trip(1)
print((round_trip(96) - small) * 1024)
"""
    # A bucket: parts in flight, each also in the HTTP client's hands, and the read-ahead.
    allowed = 64 * MIB if place.settings.s3_endpoint else 8 * MIB
    assert int(run_child(place, script)) < allowed


FILL = """
try:
    with artifacts.begin(federation) as writer:
        for number in range(64):
            writer.write(bytes(2**20))
        writer.commit("0" * 64)
except StorageUnavailableError as error:
    print(error)
"""


def test_writer_over_its_file_limit_is_told_what_is_free(place: Place) -> None:
    limit = f"resource.setrlimit(resource.RLIMIT_FSIZE, ({4 * MIB}, resource.RLIM_INFINITY))"
    message = run_child(place, limit + FILL)
    assert "could not write a blob: File too large" in message
    assert "bytes are free" in message
    assert place.stored() == []


def test_full_disk_is_told_and_leaves_nothing(place: Place, tmp_path: Path) -> None:
    unshare = shutil.which("unshare")
    mounting = (unshare or "", "--user", "--map-root-user", "--mount", "sh", "-c")
    mounted = f'mount -t tmpfs -o size=4m none {tmp_path} && exec "$@"'
    if not unshare or subprocess.run([*mounting, mounted, "sh", "true"], check=False).returncode:  # noqa: S603
        pytest.skip("mounting in a user namespace is not allowed here")
    count = "\nprint(len([f for _, _, files in os.walk(os.environ['TMPDIR']) for f in files]))"
    message = run_child(
        place,
        FILL + count,
        *mounting,
        mounted,
        "sh",
        TMPDIR=str(tmp_path),
        HANSA_MIN_FREE_BYTES="0",
    )
    assert "could not write a blob: No space left on device, 0 bytes are free" in message
    assert message.endswith("\n0\n")
