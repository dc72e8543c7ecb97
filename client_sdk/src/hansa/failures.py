"""What a researcher is told of a failed task.

A traceback says what went wrong, and may quote the site's data while doing so: the site's operator
chooses with `Tracebacks` what leaves the site.
"""

import traceback
from enum import StrEnum

from hansa.errors import HansaError
from hansa.trainer import ConfigError, TrainerError
from hansa_core import wire
from hansa_core.problems import CoreError

_OWN_FRAMES = frozenset({"hansa.runner", "hansa.work", "hansa.local_work"})


class Tracebacks(StrEnum):
    """What a researcher is told of an exception in the trainer."""

    FULL = "full"  # message and traceback
    NONE = "none"  # the exception's type


def describe_failure(error: Exception, tracebacks: Tracebacks) -> tuple[str, str]:
    """Return (message, traceback) as the researcher may see them, within the wire's bounds."""
    ours = isinstance(error, (HansaError, CoreError))
    if tracebacks is Tracebacks.NONE and not ours:
        return f"{type(error).__name__} (this site keeps the details in its own log)", ""
    message = str(error) if ours else f"{type(error).__name__}: {error}"
    if tracebacks is Tracebacks.NONE or isinstance(error, ConfigError):
        return message[: wire.MAX_ERROR], ""
    if ours and not isinstance(error, TrainerError):
        return message[: wire.MAX_ERROR], ""
    return message[: wire.MAX_ERROR], traceback_of(error)


def traceback_of(error: Exception) -> str:
    """Return the traceback from where it leaves this SDK's own loop: the trainer's part of it."""
    start = error.__traceback__
    while start is not None and start.tb_next is not None:
        if start.tb_frame.f_globals.get("__name__") not in _OWN_FRAMES:
            break
        start = start.tb_next
    lines = traceback.format_exception(type(error), error, start)
    return "".join(lines)[-wire.MAX_TRACEBACK :]


def sendable(text: str) -> str:
    """Return text that JSON can carry: file names in it may be no text."""
    return text.encode(errors="replace").decode()
