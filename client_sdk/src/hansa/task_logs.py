"""What Python's logging says while a site works on a task: the last lines, for a failure's report.

Records are taken as they are made, through logging's record factory: no handler is added, so what
the site's own log shows stays as it is, and a trainer may still configure logging. Where nobody
has, INFO and above are noted; otherwise what the site's levels let through. The SDK's HTTP library
is left out: it tells of every request.
"""

import logging
import threading
from collections import deque
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from hansa_core import wire

LEAST_LEVEL = logging.INFO
NOT_NOTED = frozenset({"httpx2", "httpcore2"})  # loggers, and those below them

_FORMAT = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")


class TaskLog:
    """The last lines that were logged. Safe to share between threads."""

    def __init__(self, lines: int) -> None:
        self._lines: deque[str] = deque(maxlen=lines)
        self._lock = threading.Lock()

    def note(self, text: str) -> None:
        """Take what one record says."""
        with self._lock:
            self._lines.extend(line[: wire.MAX_LOG] for line in text.splitlines())

    def text(self) -> str:
        """Return the lines, the end of them where they are more than the wire takes."""
        with self._lock:
            return "\n".join(self._lines)[-wire.MAX_LOG :]


@contextmanager
def captured(lines: int) -> Generator[TaskLog]:
    """Note what is logged in this process while the block runs; 0 lines: nothing."""
    log = TaskLog(lines)
    if lines:
        _tap.open(log)
    try:
        yield log
    finally:
        if lines:
            _tap.close(log)


class _Tap:
    """The one place where this process's records are taken, for however many logs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._logs: tuple[TaskLog, ...] = ()
        self._make: Any = logging.LogRecord  # logging's factory while ours is not in place
        self._lowered_from: int | None = None  # the root logger's level

    def open(self, log: TaskLog) -> None:
        with self._lock:
            if not self._logs:
                self._make = logging.getLogRecordFactory()
                logging.setLogRecordFactory(self._take)
                root = logging.getLogger()
                if not root.handlers and root.level > LEAST_LEVEL:
                    # Without handlers nothing below WARNING is shown, whatever the level is.
                    self._lowered_from = root.level
                    root.setLevel(LEAST_LEVEL)
            self._logs = (*self._logs, log)

    def close(self, log: TaskLog) -> None:
        with self._lock:
            self._logs = tuple(it for it in self._logs if it is not log)
            if self._logs:
                return
            if logging.getLogRecordFactory() == self._take:  # else somebody has wrapped it
                logging.setLogRecordFactory(self._make)
            root = logging.getLogger()
            if self._lowered_from is not None and root.level == LEAST_LEVEL:
                root.setLevel(self._lowered_from)
            self._lowered_from = None

    def _take(self, *args: Any, **kwargs: Any) -> logging.LogRecord:  # noqa: ANN401 -- logging's own
        record: logging.LogRecord = self._make(*args, **kwargs)
        logs = self._logs
        if logs and record.levelno >= LEAST_LEVEL and record.name.split(".")[0] not in NOT_NOTED:
            text = _in_words(record)
            for log in logs:
                log.note(text)
        return record


def _in_words(record: logging.LogRecord) -> str:
    """Return what the record says. A message that cannot be made is no reason to fail a task."""
    try:
        return _FORMAT.format(record)
    except Exception as error:
        return f"{record.levelname} {record.name}: {record.msg!r} ({type(error).__name__})"


_tap = _Tap()
