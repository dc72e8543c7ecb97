"""Measurements with a bound: each on a thread of its own, none waited for beyond its time.

A measurement that hangs goes on hanging, once: whoever asks for it meanwhile waits for the same
one, so that a part that does not answer costs one thread however often it is looked at.
"""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

FactsT = TypeVar("FactsT")


@dataclass(frozen=True, slots=True)
class Reading(Generic[FactsT]):
    """What a measurement came to."""

    facts: FactsT | None  # None: it failed, or is not done yet
    detail: str | None  # why there are none
    seconds: float | None  # that it took; None: there are none


class Gauges:
    """The measurements of one process, by name. For callers on its event loop."""

    def __init__(self, *, at_once: int, bound_seconds: float) -> None:
        self._bound = bound_seconds
        # Not the threads that requests share: what is measured may be why those are all busy.
        self._pool = ThreadPoolExecutor(at_once, thread_name_prefix="gauge")
        self._running: dict[str, Future[Any]] = {}

    async def read(
        self, name: str, measure: Callable[[], FactsT], *, expected: tuple[type[Exception], ...]
    ) -> Reading[FactsT]:
        """Return what `measure` returns, or why it does not: one of the errors `expected`."""
        running: Future[tuple[FactsT, float]] | None = self._running.get(name)
        if running is None:
            running = self._pool.submit(_timed, measure)
            self._running[name] = running
            running.add_done_callback(lambda _: self._running.pop(name, None))
        answer = asyncio.wrap_future(running)
        answer.add_done_callback(_note)
        await asyncio.wait({answer}, timeout=self._bound)
        if not answer.done():
            return Reading(None, f"no answer within {self._bound:g} s", None)
        try:
            facts, seconds = answer.result()
        except expected as error:
            return Reading(None, str(error) or type(error).__name__, None)
        return Reading(facts, None, seconds)

    def close(self) -> None:
        """Start nothing more. What hangs is left to end by itself."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def _timed(measure: Callable[[], FactsT]) -> tuple[FactsT, float]:
    started = time.monotonic()
    return measure(), time.monotonic() - started


def _note(answer: asyncio.Future[Any]) -> None:
    """Take note of an error that comes after nobody waits any more."""
    if not answer.cancelled():
        answer.exception()
