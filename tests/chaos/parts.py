"""One process of the hub or of a site, in the harness's hand: kill, freeze, stop, start again.

Nothing here waits. `tick` is called all the time and does what is due: it starts what is down and
may be up, lets go what was frozen long enough, kills what does not stop. The kernel ends every
process when the harness's main thread ends, however that happens.
"""

import contextlib
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import psutil

from app.embedded.processes import ProcessSpec, launch

AGAIN_SECONDS = 0.3  # after a part that ended by itself
STOP_SECONDS = 20.0  # for a polite end; then it is killed


@dataclass(slots=True)
class Part:
    """A process that is started again whenever it ends, unless it is held down."""

    spec: ProcessSpec
    log: Path
    prepare: Callable[[], None]  # before each start
    excuse: Callable[[], bool]  # whether it may end by itself now, for what was done to others
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    surprises: list[str] = field(default_factory=list[str])  # ends that nobody asked for
    _frozen: list[psutil.Process] = field(default_factory=list[psutil.Process])
    _thaw_at: float = 0.0  # monotonic seconds, as all below
    _start_at: float = 0.0
    _kill_at: float | None = None  # it was asked to stop
    _expected: bool = False  # the process's end

    @property
    def name(self) -> str:
        return self.spec.name

    @property
    def is_whole(self) -> bool:
        """Whether it runs and nothing is being done to it."""
        return self.process is not None and not self._frozen and self._kill_at is None

    def tick(self) -> None:
        """Do what is due."""
        now = time.monotonic()
        if self._frozen and now >= self._thaw_at:
            self.thaw()
        process = self.process
        if process is None:
            if now >= self._start_at:
                self._start()
        elif process.poll() is not None:
            self._on_end(process.returncode, now)
        elif self._kill_at is not None and now >= self._kill_at:
            self.surprises.append(f"did not stop within {STOP_SECONDS:g} s")
            self._kill_at = None
            process.kill()

    def kill(self, seconds: float) -> None:
        """End its first process with signal 9; it is back after `seconds`."""
        assert self.process is not None
        self._expect_end(seconds)
        self.process.kill()

    def stop(self, number: signal.Signals, seconds: float) -> None:
        """Ask it to end; it is back `seconds` after it has."""
        assert self.process is not None
        self._expect_end(seconds)
        self._kill_at = time.monotonic() + STOP_SECONDS
        self.process.send_signal(number)

    def kill_child(self, rng: Random) -> bool:
        """End one of its children with signal 9; False when there is none."""
        children = self.family()[1:]
        if not children:
            return False
        with contextlib.suppress(psutil.NoSuchProcess):
            rng.choice(children).kill()
        return True

    def freeze(self, seconds: float) -> None:
        """Stop all of its processes where they are, for `seconds`."""
        self._thaw_at = time.monotonic() + seconds
        known: set[psutil.Process] = set()
        while fresh := [member for member in self.family() if member not in known]:
            for member in fresh:  # the first one first: it makes no new ones then
                with contextlib.suppress(psutil.NoSuchProcess):
                    member.suspend()
            known.update(fresh)
        self._frozen = list(known)

    def thaw(self) -> None:
        """Let it go on."""
        for member in self._frozen:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.resume()
        self._frozen = []

    def end(self) -> None:
        """End all of its processes now, and reap."""
        family = self.family()
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        self._frozen = []
        if self.process is not None:
            self.process.wait()
            self.process = None
        psutil.wait_procs(family, timeout=STOP_SECONDS)

    def family(self) -> list[psutil.Process]:
        """Return its processes, the first one first. Postgres's own lead groups of their own."""
        if self.process is None:
            return []
        try:
            first = psutil.Process(self.process.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _expect_end(self, seconds: float) -> None:
        self._expected = True
        self._start_at = seconds  # from its end on; see _on_end

    def _on_end(self, code: int, now: float) -> None:
        if self._expected:
            self._start_at = now + self._start_at
        else:
            self._start_at = now + AGAIN_SECONDS
            if not self.excuse():
                how = f"signal {-code}" if code < 0 else f"status {code}"
                self.surprises.append(f"exited with {how} by itself")
        self.process = None
        self._kill_at = None
        self._frozen = []
        self._expected = False

    def _start(self) -> None:
        self.prepare()
        self.process = launch(self.spec, self.log)
        self.starts += 1
