"""Real processes under test: the hub with all its parts, sites, and the `hansa` command."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

from hansa.client import HansaClient
from hansa.transport import RetryPolicy

CHECKOUT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
ADMIN = "admin@hansa.example"
TRAINER = "tests.e2e.numpy_trainer:trainer"

LONG_SECONDS = 120.0  # of a loaded machine; what is waited for takes seconds on an idle one
PATIENCE = RetryPolicy(attempts=90, max_delay_seconds=1.0)

# As in life, but quick to notice what is dead.
HEARTBEAT_SECONDS = 2.0
HUB_ENV = {
    "HANSA_TASK_LEASE_SECONDS": str(4 * HEARTBEAT_SECONDS),
    "HANSA_AGGREGATION_LEASE_SECONDS": "5",
    "HANSA_SWEEP_SECONDS": "1",
}


def until(condition: Callable[[], bool], what: str, *, seconds: float = LONG_SECONDS) -> None:
    """Wait for a condition; fail, saying what it was, after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {seconds:g} s"
        threading.Event().wait(0.02)


def clean_env(**variables: str) -> dict[str, str]:
    """Return our environment without what other tests or people told Hansa."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HANSA_")}
    return {**kept, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **variables}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def spawn(argv: Sequence[str], log: Path, env: Mapping[str, str]) -> subprocess.Popen[bytes]:
    with log.open("ab") as file:
        return subprocess.Popen(  # noqa: S603 -- our own commands
            argv,
            env=dict(env),
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
            start_new_session=True,
        )


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process politely, and surely."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(LONG_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


@dataclass(slots=True)
class Stack:
    """`hansa-hub up` in a folder, on a port that stays the same over restarts."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    env: Mapping[str, str] = field(default_factory=dict[str, str])  # more settings of the hub

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def data_dir(self) -> Path:
        return self.folder / "hub"

    @property
    def password(self) -> str:
        return (self.data_dir / "admin-password").read_text().strip()

    def start(self) -> None:
        """Start it and wait until it is ready."""
        log = self.folder / "hub.log"
        argv = (str(BIN / "hansa-hub"), "up", "--data-dir", str(self.data_dir))
        process = spawn(
            (*argv, "--port", str(self.port)), log, clean_env(**{**HUB_ENV, **self.env})
        )
        self.process = process

        def is_ready() -> bool:
            assert process.poll() is None, log.read_text()
            state = self.state()
            return state.get("pid") == process.pid and state["ready"]

        until(is_ready, "a ready hub")

    def state(self) -> dict[str, Any]:
        """What stack.json says; nothing before the first start and after a stop."""
        try:
            return json.loads((self.data_dir / "stack.json").read_text())
        except FileNotFoundError:
            return {}

    def kill(self, name: str) -> None:
        """Kill one part with signal 9 and wait for its successor."""
        victim = int(self.state()["children"][name])
        os.kill(victim, signal.SIGKILL)
        until(lambda: self.state()["children"].get(name, victim) != victim, f"a new {name} process")

    def kill_supervisor(self) -> None:
        """Kill the supervisor itself, and wait until its children followed it."""
        assert self.process is not None
        family = psutil.Process(self.process.pid).children(recursive=True)
        self.process.kill()
        self.process.wait()
        psutil.wait_procs(family, timeout=LONG_SECONDS)

    def login(self) -> HansaClient:
        """Return a patient client that acts as the administrator."""
        with HansaClient(self.address, retry=PATIENCE) as anonymous:
            token = anonymous.login(ADMIN, self.password).token
        return HansaClient(self.address, token, retry=PATIENCE)


@dataclass(slots=True)
class Site:
    """A data site: its folder, its environment and, while it runs, its process."""

    name: str
    folder: Path
    env: Mapping[str, str]
    process: subprocess.Popen[bytes] | None = None
    trainer: str = TRAINER

    @property
    def state_dir(self) -> Path:
        return self.folder / self.name

    @property
    def log(self) -> Path:
        return self.folder / f"{self.name}.log"

    @property
    def said(self) -> str:
        """What the site printed so far."""
        return self.log.read_text() if self.log.exists() else ""

    def start(self) -> None:
        """Run `hansa site run`."""
        argv = (str(BIN / "hansa"), "site", "run", "--trainer", self.trainer)
        self.process = spawn(
            (*argv, "--state-dir", str(self.state_dir)), self.log, clean_env(**self.env)
        )

    def kill(self) -> None:
        """End it with signal 9."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it politely, if it runs."""
        if self.process is not None:
            stop(self.process)


@dataclass(frozen=True, slots=True)
class Cli:
    """The `hansa` command of one person, with a configuration of their own."""

    config: Path
    env: Mapping[str, str] = field(default_factory=dict[str, str])

    def __call__(
        self, *arguments: str, stdin: str = "", expect: int = 0
    ) -> subprocess.CompletedProcess[str]:
        """Run it; check the exit code."""
        done = subprocess.run(  # noqa: S603 -- our own command
            (str(BIN / "hansa"), *arguments),
            env=clean_env(HANSA_CONFIG=str(self.config), COLUMNS="200", **self.env),
            cwd=CHECKOUT,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=LONG_SECONDS,
            check=False,
        )
        assert done.returncode == expect, done.stdout + done.stderr
        return done
