"""A small supervisor of child processes: one thread, one loop, no polling.

Invariants: every child leads its own process group and dies with the supervisor, even when
that is killed with signal 9; whatever a dead child leaves in its group is killed; a child that
exits unexpectedly is started again, after 0.2 s, doubling to 5 s, from 0.2 s again once it
has run for 10 s; children stop in the reverse of the order they started in.
"""

import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from app.embedded import launch as launch_script
from app.embedded.errors import StackError, StopRequestedError

FIRST_DELAY_SECONDS = 0.2
LONGEST_DELAY_SECONDS = 5.0
HEALTHY_SECONDS = 10.0  # a run this long forgets the failures before it
ATTEMPTS_BEFORE_READY = 4  # exits of one child while we wait for it, then we give up
LOG_BYTES = 16 * 2**20  # a longer log becomes <name>.log.1
LOG_CHECK_SECONDS = 30.0
TAIL_LINES = 15


@dataclass(frozen=True, slots=True)
class Account:
    """The user a child runs as."""

    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class ProcessSpec:
    """One process: what runs, with which variables on top of ours, after which others."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    depends_on: tuple[str, ...] = ()
    account: Account | None = None  # None: as the supervisor
    cwd: Path = Path("/")
    stop_signal: signal.Signals = signal.SIGTERM
    death_signal: signal.Signals = signal.SIGKILL  # sent by the kernel if the supervisor dies
    stop_seconds: float = 15.0  # from stop_signal to SIGKILL


@dataclass(slots=True)
class _Child:
    spec: ProcessSpec
    prepare: Callable[[], None]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0  # monotonic seconds
    restart_at: float = 0.0
    delay_seconds: float = FIRST_DELAY_SECONDS
    exits: int = field(default=0)


def launch(
    spec: ProcessSpec, log: Path, *, stdin: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start `spec` in a process group of its own, its output appended to `log`."""
    account = spec.account
    prefix = (
        sys.executable,
        *("-I", "-S", str(Path(launch_script.__file__).resolve())),
        *(str(int(spec.death_signal)), str(os.getpid())),
        *((str(account.uid), str(account.gid)) if account else ("-", "-")),
    )
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        return subprocess.Popen(
            (*prefix, *spec.argv),
            env={**os.environ, **spec.env},
            cwd=spec.cwd,
            stdin=stdin,
            stdout=descriptor,
            stderr=descriptor,
            start_new_session=True,
        )
    finally:
        os.close(descriptor)


def end(process: subprocess.Popen[bytes], spec: ProcessSpec) -> None:
    """Ask a process to stop, insist after `spec.stop_seconds`, and clear its group."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(spec.stop_signal)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(spec.stop_seconds)
    if process.poll() is None:
        _kill_group(process.pid)
        process.wait()


def bound_log(log: Path) -> None:
    """Move a log that has grown over LOG_BYTES to <log>.1; writers append, so all go on."""
    if log.exists() and log.stat().st_size > LOG_BYTES:
        shutil.copyfile(log, log.with_name(log.name + ".1"))
        os.truncate(log, 0)


def tail(log: Path, lines: int = TAIL_LINES) -> str:
    """Return the last lines of a log, indented; at most 16 KiB are read."""
    if not log.exists():
        return "  (no log)"
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 16384))
        text = file.read().decode(errors="replace")
    kept = text.splitlines()[-lines:]
    return "\n".join(f"  | {line}" for line in kept) or "  (the log is empty)"


class Supervisor:
    """Starts, watches, restarts and stops children. Use from the main thread, as a context."""

    def __init__(
        self,
        logs: Path,
        *,
        report: Callable[[str], None],
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self._logs = logs
        self._report = report
        self._changed = changed  # called whenever a pid changed
        self._children: dict[str, _Child] = {}  # in start order
        self._stop_requests = 0
        self._logs_checked_at = time.monotonic()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._previous = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN  # nohup
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        os.close(self._wake_read)
        os.close(self._wake_write)

    def start(self, spec: ProcessSpec, *, prepare: Callable[[], None] = lambda: None) -> None:
        """Start a child and keep it running; `prepare` runs before each of its starts.

        Raises:
            StackError: a process it depends on was not started before it.
        """
        missing = [name for name in spec.depends_on if name not in self._children]
        if missing:
            raise StackError(f"{spec.name} needs {', '.join(missing)}, not started before it")
        bound_log(self.log_path(spec.name))
        child = _Child(spec, prepare)
        self._children[spec.name] = child
        self._spawn(child)

    def run_once(self, spec: ProcessSpec, *, stdin: bytes = b"", timeout_seconds: float) -> None:
        """Run a command to its end.

        Raises:
            StackError: it failed or took longer than `timeout_seconds`; has the log's tail.
            StopRequestedError: we were asked to stop meanwhile.
        """
        log = self.log_path(spec.name)
        bound_log(log)
        process = launch(spec, log, stdin=subprocess.PIPE)
        try:
            assert process.stdin is not None
            with contextlib.suppress(BrokenPipeError), process.stdin:
                process.stdin.write(stdin)
            self.wait_until(
                lambda: process.poll() is not None, spec.name, timeout_seconds=timeout_seconds
            )
        finally:
            if process.poll() is None:
                end(process, spec)
        if process.returncode != 0:
            raise StackError(
                f"{spec.name} failed: {_describe(process.returncode)}; "
                f"the end of {log}:\n{tail(log)}"
            )

    def wait_until(
        self, condition: Callable[[], bool], what: str, *, timeout_seconds: float
    ) -> None:
        """Serve the children until `condition()`; `what` may be the name of one of them.

        Raises:
            StackError: not within `timeout_seconds`, or that child keeps exiting.
            StopRequestedError: we were asked to stop.
        """
        deadline = time.monotonic() + timeout_seconds
        child = self._children.get(what)
        exits = child.exits if child else 0
        while not condition():
            if self._stop_requests:
                raise StopRequestedError
            if child and child.exits - exits >= ATTEMPTS_BEFORE_READY:
                log = self.log_path(what)
                raise StackError(f"{what} keeps exiting; the end of {log}:\n{tail(log)}")
            if time.monotonic() > deadline:
                log = self.log_path(what)
                raise StackError(
                    f"{what} was not ready within {timeout_seconds:g} s; "
                    f"the end of {log}:\n{tail(log)}"
                )
            self._step(0.05)

    def run(self) -> None:
        """Keep the children running until SIGINT or SIGTERM."""
        while not self._stop_requests:
            self._step(LOG_CHECK_SECONDS)

    def stop(self) -> None:
        """Stop all children, last started first; a second signal kills the rest at once."""
        asked = self._stop_requests
        for child in reversed(self._children.values()):
            process, child.process = child.process, None
            if process is None:
                continue
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(child.spec.stop_signal)
            deadline = time.monotonic() + child.spec.stop_seconds
            while not _has_exited(process.pid):
                if time.monotonic() > deadline or self._stop_requests > max(asked, 1):
                    self._report(f"{child.spec.name} does not stop; killing it")
                    break
                self._sleep(0.2)
            _kill_group(process.pid)
            process.wait()
        self._children.clear()
        self._changed()

    def pids(self) -> dict[str, int]:
        """Return the running children's process ids by name."""
        return {name: child.process.pid for name, child in self._children.items() if child.process}

    def log_path(self, name: str) -> Path:
        """Return the file that holds a child's output."""
        return self._logs / f"{name}.log"

    def _spawn(self, child: _Child) -> None:
        child.prepare()
        child.process = launch(child.spec, self.log_path(child.spec.name))
        child.started_at = time.monotonic()
        self._changed()

    def _step(self, longest_seconds: float) -> None:
        """Reap, restart what is due, then sleep until something happens."""
        now = time.monotonic()
        wake_at = now + longest_seconds
        for child in self._children.values():
            if child.process and _has_exited(child.process.pid):
                self._on_exit(child, child.process)
            if child.process is None:
                if child.restart_at <= now:
                    self._respawn(child)
                wake_at = min(wake_at, child.restart_at)
        if now - self._logs_checked_at > LOG_CHECK_SECONDS:
            self._logs_checked_at = now
            for name in self._children:
                bound_log(self.log_path(name))
        self._sleep(max(0.0, wake_at - time.monotonic()))

    def _on_exit(self, child: _Child, process: subprocess.Popen[bytes]) -> None:
        _kill_group(process.pid)  # before the reap: until then nobody else gets this number
        code = process.wait()
        now = time.monotonic()
        if now - child.started_at >= HEALTHY_SECONDS:
            child.delay_seconds = FIRST_DELAY_SECONDS
        delay = child.delay_seconds
        child.delay_seconds = min(LONGEST_DELAY_SECONDS, delay * 2)
        child.restart_at = now + delay
        child.process = None
        child.exits += 1
        name = child.spec.name
        self._report(f"{name} {_describe(code)}; restarting in {delay:g} s")
        if code > 0:
            self._report(tail(self.log_path(name), 5))
        self._changed()

    def _respawn(self, child: _Child) -> None:
        try:
            self._spawn(child)
        except (OSError, StackError) as error:
            delay = child.delay_seconds
            child.delay_seconds = min(LONGEST_DELAY_SECONDS, delay * 2)
            child.restart_at = time.monotonic() + delay
            child.exits += 1
            self._report(f"{child.spec.name} did not start: {error}; again in {delay:g} s")

    def _sleep(self, seconds: float) -> None:
        if select.select([self._wake_read], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_read, 4096)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if number != signal.SIGCHLD:
            self._stop_requests += 1
        with contextlib.suppress(BlockingIOError):
            os.write(self._wake_write, b"!")


def _has_exited(pid: int) -> bool:
    """Whether our child has ended; it stays unreaped, so its pid cannot be reused."""
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, pid, flags) is not None


def _kill_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)


def _describe(code: int) -> str:
    return f"exited with signal {-code}" if code < 0 else f"exited with status {code}"
