"""What this machine is, and how fast it moves, stores and hashes bytes when nothing else runs.

The rates are the floor under a round: no hub can be faster than the bytes it has to move.
"""

import hashlib
import os
import socket
import statistics
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

_CHUNK = 1 << 20  # bytes
_SYNCS = 20  # small fsyncs, of which the median counts


@dataclass(frozen=True, slots=True)
class Machine:
    """Who measured."""

    cpu: str
    cores: int
    memory_mb: int  # 10**6 bytes


@dataclass(frozen=True, slots=True)
class Floor:
    """Rates in 10**6 bytes per second, measured alone."""

    loopback_mb_s: float  # one TCP connection over 127.0.0.1
    disk_mb_s: float  # written and flushed by one fsync
    sha256_mb_s: float  # one core
    fsync_ms: float  # 4 KiB appended and flushed, the median


def this_machine() -> Machine:
    """Return this machine's cores, CPU model and memory."""
    cpu = "unknown CPU"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(cpu, len(os.sched_getaffinity(0)), round(memory / 1e6))


def load_average() -> float:
    """Return the processes that wanted to run, averaged over the last minute."""
    return os.getloadavg()[0]


def measure_floor(folder: Path, megabytes: int = 128) -> Floor:
    """Move, store (in `folder`) and hash `megabytes` each; takes a second or a few."""
    chunk = os.urandom(_CHUNK)
    chunks = megabytes
    return Floor(
        loopback_mb_s=_rate(chunks, lambda: _send(chunk, chunks)),
        disk_mb_s=_rate(chunks, lambda: _store(folder, chunk, chunks)),
        sha256_mb_s=_rate(chunks, lambda: _hash(chunk, chunks)),
        fsync_ms=1000 * _small_fsync(folder),
    )


def _rate(chunks: int, work: Callable[[], None]) -> float:
    began = time.perf_counter()
    work()
    return chunks * _CHUNK / 1e6 / (time.perf_counter() - began)


def _send(chunk: bytes, chunks: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def feed() -> None:
            with socket.create_connection(server.getsockname()) as source:
                for _ in range(chunks):
                    source.sendall(chunk)

        feeder = threading.Thread(target=feed)
        feeder.start()
        sink, _ = server.accept()
        buffer = bytearray(_CHUNK)
        with sink:
            while sink.recv_into(buffer):
                pass
        feeder.join()


def _store(folder: Path, chunk: bytes, chunks: int) -> None:
    path = folder / "floor.bin"
    with path.open("wb", buffering=0) as file:
        for _ in range(chunks):
            file.write(chunk)
        os.fsync(file.fileno())
    path.unlink()


def _hash(chunk: bytes, chunks: int) -> None:
    hasher = hashlib.sha256()
    for _ in range(chunks):
        hasher.update(chunk)


def _small_fsync(folder: Path) -> float:
    """Return the seconds of one small append that is flushed."""
    path = folder / "floor.bin"
    seconds: list[float] = []
    with path.open("wb", buffering=0) as file:
        for _ in range(_SYNCS):
            began = time.perf_counter()
            file.write(bytes(4096))
            os.fsync(file.fileno())
            seconds.append(time.perf_counter() - began)
    path.unlink()
    return statistics.median(seconds)
