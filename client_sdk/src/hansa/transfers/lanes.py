"""Several chunks at once: threads that take indices until none is left or one of them fails.

Invariants: when a lane fails the others finish the chunk they are at, because bytes sent are worth
keeping, and take no other; when the caller is interrupted nobody goes on. The caller's thread does
nothing but watch, so that a signal reaches it, and call back.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Generic, TypeVar

from hansa.transfers.throttles import Throttle

IndexT = TypeVar("IndexT")  # of a chunk, or of a run of them

LOOK_SECONDS = 0.1  # between two looks of the caller
JOIN_SECONDS = 2.0  # for threads that were told to stop


class StoppedError(Exception):
    """A lane was told to stop."""


class Course:
    """What the lanes of one transfer share: the way to stop them, and bytes counted."""

    def __init__(self, throttle: Throttle, done: int = 0) -> None:
        self._throttle = throttle
        self._stopping = threading.Event()
        self._lock = threading.Lock()
        self._done = done

    @property
    def done(self) -> int:
        """Bytes done so far."""
        return self._done

    def count(self, size: int) -> None:
        """Count bytes; negative ones are taken back, as their chunk has to go again."""
        with self._lock:
            self._done += size

    def pass_on(self, size: int) -> None:
        """Wait until `size` bytes may travel. Raises StoppedError."""
        wait = self._throttle.take(size)
        if self._stopping.wait(wait) if wait else self._stopping.is_set():
            raise StoppedError

    def stop(self) -> None:
        """Stop the lanes at their next bytes."""
        self._stopping.set()


class Counted:
    """The bytes of one chunk in a course's count, to be taken back when it has to go again."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._size = 0

    def add(self, size: int) -> None:
        """Count bytes on their way."""
        self._size += size
        self._course.count(size)

    def keep(self, size: int) -> None:
        """Leave `size` of the bytes in the count for good: they do not go again."""
        self._size -= size

    def take_back(self) -> None:
        """Take all back but those kept."""
        self.settle(0)

    def settle(self, size: int) -> None:
        """Count `size` bytes instead of what was on its way."""
        self._course.count(size - self._size)
        self._size = size


def run_lanes(
    course: Course,
    indices: Iterable[IndexT],
    work: Callable[[IndexT], None],
    *,
    lanes: int,
    watch: Callable[[], bool],
) -> None:
    """Do `work` for every index, so many at once; call `watch` all the time.

    `watch` returns whether it had something to do: then it is called again at once. What it or
    `work` raises is raised here.
    """
    queue = _Queue(indices, work)
    threads = [
        threading.Thread(target=queue.run, name=f"lane-{number}", daemon=True)
        for number in range(min(lanes, len(queue.left)))
    ]
    for thread in threads:
        thread.start()
    try:
        while any(thread.is_alive() for thread in threads):
            if not watch():
                queue.changed.wait(LOOK_SECONDS)
                queue.changed.clear()
    except BaseException:
        course.stop()
        for thread in threads:
            thread.join(JOIN_SECONDS)
        raise
    while watch():
        pass
    for failure in queue.failures:
        if not isinstance(failure, StoppedError):
            raise failure


class _Queue(Generic[IndexT]):
    """What is left to do, and what went wrong."""

    def __init__(self, indices: Iterable[IndexT], work: Callable[[IndexT], None]) -> None:
        self.left = deque(indices)
        self.failures: list[BaseException] = []
        self.changed = threading.Event()
        self._work = work

    def run(self) -> None:
        """Be a lane; what goes wrong is raised by run_lanes."""
        try:
            while not self.failures:
                try:
                    index = self.left.popleft()
                except IndexError:
                    return
                self._work(index)
                self.changed.set()
        except BaseException as error:
            self.failures.append(error)
        finally:
            self.changed.set()
