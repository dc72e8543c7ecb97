"""The hub and its sites as real processes in a temporary folder, for the length of a `with`.

Invariants: nothing outlives the block, nor the benchmark itself when it is killed; the folder
is removed; no HANSA_ variable of the caller's environment reaches a process.
"""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM
from typing import Any

from app.embedded.processes import ProcessSpec, end, launch, tail
from benchmarks.rounds.processes import children_of
from hansa.client import HansaClient
from hansa_core import wire
from hansa_core.states import SiteState

CHECKOUT = Path(__file__).resolve().parents[2]
FEDERATION = "bench"
WORKERS = 2
START_SECONDS = 120.0
LOOK_EVERY_SECONDS = 0.1


class BenchmarkError(Exception):
    """The rig could not do what was asked; the message has the log's end."""


@dataclass(frozen=True, slots=True)
class Stack:
    """A running hub."""

    folder: Path  # everything is below it
    hub_log: Path
    client: HansaClient  # the administrator's
    pids: Mapping[str, int]  # "hub", "worker", "beat", "postgres", "valkey"
    worker_pids: tuple[int, ...]  # Celery's parent and its pool


@dataclass(frozen=True, slots=True)
class Sites:
    """Running sites."""

    traces: tuple[Path, ...]
    pids: tuple[int, ...]


@contextmanager
def running_stack(where: Path | None) -> Generator[Stack]:
    """Run `hansa-hub up` in a new folder below `where` (None: the system's) on a free port.

    Raises:
        BenchmarkError: it does not start.
    """
    for name in [name for name in os.environ if name.startswith("HANSA_")]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="hansa-bench-", dir=where) as name:
        folder = Path(name)
        folder.chmod(0o711)  # as root, Postgres runs as nobody and has to pass
        data = folder / "hub"
        command = str(Path(sys.executable).with_name("hansa-hub"))
        options = ("--data-dir", str(data), "--port", "0", "--worker-concurrency", str(WORKERS))
        spec = ProcessSpec(
            "hub", (command, "up", *options), {}, death_signal=SIGTERM, stop_seconds=60
        )
        log = folder / "hub.log"
        process = launch(spec, log)
        try:
            state = _await_state(data / "stack.json", process, log)
            password = Path(state["admin_password_file"]).read_text().strip()
            with HansaClient(state["address"]) as anonymous:
                token = anonymous.login(state["admin_email"], password).token
            with HansaClient(state["address"], token) as client:
                client.create_federation(
                    wire.FederationCreate(
                        slug=FEDERATION, name="Benchmark", requires_approval=False
                    )
                )
                yield Stack(
                    folder=folder,
                    hub_log=log,
                    client=client,
                    pids=state["children"],
                    worker_pids=_await_pool(state["children"]["worker"]),
                )
        finally:
            end(process, spec)


@contextmanager
def running_sites(stack: Stack, count: int) -> Generator[Sites]:
    """Enroll and run `count` sites; yield once all of them are online.

    Raises:
        BenchmarkError: one of them does not come up.
    """
    client = stack.client
    invitation = client.create_invitation(FEDERATION, wire.InvitationCreate(max_uses=count))
    traces: list[Path] = []
    with contextlib.ExitStack() as started:
        processes: list[subprocess.Popen[bytes]] = []
        for index in range(count):
            name = f"site-{index:03}"
            traces.append(stack.folder / f"{name}.jsonl")
            spec = ProcessSpec(
                name,
                (
                    *(sys.executable, "-m", "benchmarks.rounds.site", "--hub", client.url),
                    *("--invitation", invitation.token, "--name", name),
                    *("--state-dir", str(stack.folder / name), "--trace", str(traces[-1])),
                ),
                {},
                cwd=CHECKOUT,
            )
            process = launch(spec, stack.folder / f"{name}.log")
            started.callback(end, process, spec)
            processes.append(process)

        def all_online() -> bool:
            for index, process in enumerate(processes):
                if process.poll() is not None:
                    log = stack.folder / f"site-{index:03}.log"
                    raise BenchmarkError(f"site {index} ended:\n{tail(log)}")
            sites = list(client.sites(FEDERATION))
            ready = [site for site in sites if site.online and site.state is SiteState.ACTIVE]
            return len(ready) == count

        await_true(all_online, f"{count} sites online", START_SECONDS)
        yield Sites(tuple(traces), tuple(process.pid for process in processes))


def await_true(
    condition: Callable[[], bool],
    what: str,
    seconds: float,
    *,
    every_seconds: float = LOOK_EVERY_SECONDS,
) -> None:
    """Return once `condition()`, or raise BenchmarkError after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise BenchmarkError(f"no {what} within {seconds:g} s")
        time.sleep(every_seconds)


def _await_state(path: Path, process: subprocess.Popen[bytes], log: Path) -> dict[str, Any]:
    state: dict[str, Any] = {}

    def is_ready() -> bool:
        if process.poll() is not None:
            raise BenchmarkError(f"the hub ended:\n{tail(log)}")
        if not path.exists():
            return False
        state.update(json.loads(path.read_text()))
        return bool(state["ready"])

    await_true(is_ready, "hub that is ready", START_SECONDS)
    return state


def _await_pool(parent: int) -> tuple[int, ...]:
    await_true(lambda: len(children_of(parent)) >= WORKERS, "worker pool", START_SECONDS)
    return (parent, *children_of(parent))
