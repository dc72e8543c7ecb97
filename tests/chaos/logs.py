"""Which exceptions the hub's and the workers' logs speak of, and which of them are no surprise."""

import json
import re
from collections import Counter
from pathlib import Path

# A store that goes in the middle of an answer cuts it off: its status is sent already. That is
# what Starlette says then; who asks after that has to get a status.
CUT = "Caught handled exception, but response already started."
CUT_ANSWER = "an answer cut off"

# A server that was killed, frozen or cut off says so by these.
EXPECTED = frozenset(
    {
        "sqlalchemy.exc.OperationalError",
        "sqlalchemy.exc.TimeoutError",
        "sqlalchemy.exc.InvalidatePoolError",
        "psycopg.OperationalError",
        "psycopg.errors.AdminShutdown",
        "psycopg.errors.CannotConnectNow",
        "psycopg.errors.ConnectionTimeout",
        "psycopg.errors.CrashShutdown",
        "psycopg.errors.LockNotAvailable",
        "psycopg.errors.QueryCanceled",
        "psycopg_pool.PoolTimeout",
        "redis.exceptions.BusyLoadingError",
        "redis.exceptions.ConnectionError",
        "redis.exceptions.TimeoutError",
        "kombu.exceptions.OperationalError",
        "app.domain.errors.StorageUnavailableError",
        "billiard.exceptions.WorkerLostError",
        "ConnectionError",
        "ConnectionRefusedError",
        "ConnectionResetError",
        "BrokenPipeError",
        "celery.beat.SchedulingError",  # beat's word for a broker that is away
        "FileNotFoundError",  # the socket, or the store's folder
        "OSError",
        "TimeoutError",
        "asyncio.exceptions.CancelledError",  # a request that outlived its replica's grace
        "KeyboardInterrupt",
        "SystemExit",
        CUT_ANSWER,  # counted by the harness
    }
)
# What must never be logged, with an exception or without.
FORBIDDEN_EVENTS = frozenset({"request_crashed"})

_EXCEPTION = re.compile(r"^(?:\s*[|+] )*((?:[A-Za-z_]\w*\.)*[A-Z]\w*)(?::|$)", re.MULTILINE)
_WRAPPER = "billiard.einfo.ExceptionWithTraceback"  # what it wraps has its own traceback
_TRACEBACK = "Traceback (most recent call last):"
_CHAINED = (
    "During handling of the above exception, another exception occurred:",
    "The above exception was the direct cause of the following exception:",
)


def exceptions_in(text: str) -> Counter[str]:
    """Count the exceptions that `text` has tracebacks of, by their full name.

    Of a chain the last one counts: what came before it was met by a handler.
    """
    found: Counter[str] = Counter()
    for block in text.split(_TRACEBACK)[1:]:
        if any(phrase in block for phrase in _CHAINED):
            continue
        if (match := _EXCEPTION.search(block)) and match[1] != _WRAPPER:
            found[CUT_ANSWER if CUT in block else match[1]] += 1
    return found


def read(log: Path) -> tuple[Counter[str], list[str]]:
    """Return the exceptions in a log, and its events that must not be there.

    An answer that a lost store cut off is among the exceptions only, as CUT_ANSWER.
    """
    found: Counter[str] = Counter()
    forbidden: list[str] = []
    plain: list[str] = []
    for line in log.read_text(errors="replace").splitlines():
        if line.startswith("{"):
            try:
                entry = json.loads(line)
            except ValueError:  # cut in the middle by a signal
                continue
            trace = str(entry.get("exception", ""))
            found += exceptions_in(trace)
            is_cut = CUT in trace and "StorageUnavailableError" in trace
            if entry.get("event") in FORBIDDEN_EVENTS and not is_cut:
                forbidden.append(line)
        else:
            plain.append(line)
    return found + exceptions_in("\n".join(plain)), forbidden
