"""Keeps the demo's processes running while another thread does the demo's work.

Invariants: the main thread alone starts, restarts and stops processes; the work asks for them
through `Requests`; when the demo is asked to stop, every wait of the work ends at once.
"""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

from app.embedded.errors import StopRequestedError
from app.embedded.processes import ProcessSpec, Supervisor

LONGEST_SECONDS = 1800.0  # of a whole demo on a very busy machine
LOOK_SECONDS = 0.1  # how soon the end of the work is noticed

ResultT = TypeVar("ResultT")


class DemoError(Exception):
    """A step of the demo failed; the message says which."""


class StoppedError(Exception):
    """The demo was asked to stop while it waited for something."""


class Requests:
    """What the working thread wants of the main one, and how it learns to stop."""

    def __init__(self) -> None:
        self._starts: SimpleQueue[ProcessSpec] = SimpleQueue()
        self._stopping = threading.Event()

    def start(self, spec: ProcessSpec) -> None:
        """Have a process started and kept running."""
        self._starts.put(spec)

    def pause(self, seconds: float) -> None:
        """Wait.

        Raises:
            StoppedError: the demo stops.
        """
        if self._stopping.wait(seconds):
            raise StoppedError

    def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a condition; as `pause`."""
        while not condition():
            self.pause(LOOK_SECONDS)

    def serve(self, supervisor: Supervisor) -> None:
        """Start what was asked for; call it from the main thread."""
        while not self._starts.empty():
            supervisor.start(self._starts.get())

    def stop(self) -> None:
        """End every wait."""
        self._stopping.set()


def supervise(
    supervisor: Supervisor,
    requests: Requests,
    work: Callable[[], ResultT],
    *,
    report: Callable[[str], None],
) -> ResultT:
    """Do `work` in another thread, looking after the processes meanwhile; return its result.

    Raises:
        StackError: it takes longer than LONGEST_SECONDS.
        StopRequestedError: a signal asked us to stop.
        Exception: what `work` raises.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="demo") as executor:
        future = executor.submit(work)

        def done() -> bool:
            requests.serve(supervisor)
            return future.done()

        try:
            supervisor.wait_until(done, "demo", timeout_seconds=LONGEST_SECONDS)
        except StopRequestedError:
            report("stopping")
            raise
        finally:
            requests.stop()  # leaving the executor waits for the work
    return future.result()
