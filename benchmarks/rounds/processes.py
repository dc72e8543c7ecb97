"""What processes use while a run goes on: resident memory, sampled, and processor time, counted.

Processor time hardly depends on what else the machine does, so it tells more than the clock
where a round's time has to go. The memory counter is resident set size, the second field of
/proc/<pid>/statm, which `VmRSS` shows too: every page that is mapped and present, pages shared
with the parent process included.
"""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

SAMPLES_PER_SECOND = 20

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = 1 / os.sysconf("SC_CLK_TCK")  # seconds


@dataclass(frozen=True, slots=True)
class Usage:
    """One process's memory, in 10**6 bytes."""

    idle: float  # when sampling began
    peak: float

    @property
    def growth(self) -> float:
        """What work added."""
        return self.peak - self.idle


class Sampler:
    """Samples some processes from entering to leaving the `with` block."""

    def __init__(self, pids: Sequence[int]) -> None:
        self._idle = {pid: resident(pid) for pid in pids}
        self._peak = dict(self._idle)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._closed.set()
        self._thread.join()

    def largest(self, pids: Sequence[int]) -> Usage:
        """Return the process among `pids` that grew to the largest size."""
        pid = max(pids, key=lambda pid: self._peak[pid])
        return Usage(self._idle[pid] / 1e6, self._peak[pid] / 1e6)

    def _run(self) -> None:
        while not self._closed.wait(1 / SAMPLES_PER_SECOND):
            for pid, peak in self._peak.items():
                self._peak[pid] = max(peak, resident(pid))


def resident(pid: int) -> int:
    """Return the bytes that a process has resident, 0 when there is no such process."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except (FileNotFoundError, ProcessLookupError):
        return 0


def cpu_seconds(pid: int) -> float:
    """Return what a process, all that it started and all that these started have used."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    # From utime on: in user mode, in the kernel, and the same of children that have ended.
    own = sum(int(field) for field in fields[11:15]) * _TICK
    return own + sum(cpu_seconds(child) for child in children_of(pid))


def children_of(pid: int) -> list[int]:
    """Return the process ids of a process's children."""
    found: list[int] = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(path.read_text().rpartition(")")[2].split()[1])
        except (FileNotFoundError, ProcessLookupError):
            continue
        if parent == pid:
            found.append(int(path.parent.name))
    return sorted(found)
