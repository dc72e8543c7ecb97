"""What happens in the hub, seen in its own events: for moments to strike at, and for the log.

A thread follows the table of events with a connection of its own, whatever happens to Postgres.
"""

import threading
from collections import Counter
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import psycopg

LOOK_SECONDS = 0.02
CONNECT_SECONDS = 2
QUERY = "SELECT id, kind, data FROM events WHERE id > %s ORDER BY id"


@dataclass(slots=True)
class Watch:
    """Follows the events of a database while entered."""

    conninfo: str
    seen: Counter[str] = field(default_factory=Counter[str])  # by kind
    phase: str = "idle"
    _last_id: int = 0
    _ended: threading.Event = field(default_factory=threading.Event)
    _thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        assert self._thread is not None
        self._thread.join(CONNECT_SECONDS + 1)

    def _run(self) -> None:
        while not self._ended.wait(LOOK_SECONDS):
            try:
                with psycopg.connect(
                    self.conninfo, connect_timeout=CONNECT_SECONDS, autocommit=True
                ) as connection:
                    while not self._ended.wait(LOOK_SECONDS):
                        for number, kind, data in connection.execute(QUERY, (self._last_id,)):
                            self._last_id = number
                            self._note(kind, data)
            except psycopg.Error:
                continue  # that is what the harness is for

    def _note(self, kind: str, data: dict[str, Any]) -> None:
        match kind:
            case "roster.confirmed" | "task.claimed":
                self.phase = f"round {data['round_number']} collecting"
            case (
                "round.opened"  # of a secure run: being set up, if there is no roster yet
                | "round.signing"
                | "round.opening"
                | "round.aggregating"
                | "round.completed"
                | "round.failed"
            ):
                self.phase = f"round {data['round_number']} {kind.partition('.')[2]}"
            case "run.completed" | "run.failed" | "run.cancelled":
                self.phase = "idle"
            case _:
                pass
        self.seen[kind] += 1
