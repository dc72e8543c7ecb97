"""A run's events, read by a thread, for a screen that has other things to look at as well."""

import queue
import threading
from typing import Self
from uuid import UUID

from hansa.client import ENDINGS, HansaClient
from hansa.errors import RetryableError
from hansa.transport import RetryPolicy
from hansa_core import wire

HELD = 1000  # events that wait for the screen; the stream waits when there are more
AWAY = RetryPolicy(first_delay_seconds=1.0, max_delay_seconds=15.0)


class RunFeed:
    """Everything that happened and happens to one run, until it has ended. Use it in a `with`."""

    def __init__(self, client: HansaClient, federation: str, run_id: UUID) -> None:
        self._client = client
        self._federation = federation
        self._run_id = run_id
        self._came: queue.Queue[wire.Event | Exception] = queue.Queue(HELD)
        self._stopped = threading.Event()
        # A daemon: it may be waiting for the hub when the screen is left.
        self._thread = threading.Thread(target=self._read, name="run-feed", daemon=True)
        self.is_over = False  # the run's last event was taken

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()

    def take(self, seconds: float) -> list[wire.Event]:
        """Return what came, waiting up to `seconds` for the first of it.

        Raises:
            RetryableError: the hub is away; the feed goes on by itself when it is back.
            HansaError: there will be nothing more.
        """
        taken: list[wire.Event] = []
        try:
            while True:
                came = self._came.get(timeout=0 if taken else seconds)
                if isinstance(came, Exception):
                    raise came
                taken.append(came)
                self.is_over = self.is_over or came.kind in ENDINGS
        except queue.Empty:
            return taken
        except RetryableError:
            if taken:
                return taken  # it will be told again if it lasts
            raise

    def _read(self) -> None:
        log = self._client.event_log(self._federation)
        after, attempt = 0, 0
        while not self._stopped.is_set():
            try:
                for event in log.stream(after=after, run_id=self._run_id):
                    after, attempt = event.id, 0
                    self._hand_over(event)
                    if event.kind in ENDINGS or self._stopped.is_set():
                        return
            except RetryableError as error:
                attempt += 1
                self._hand_over(error)
                self._stopped.wait(AWAY.delay(attempt, 0.5))
            except Exception as error:
                # What ends the feed, told to who looks; leaving the screen closes the client, too.
                self._hand_over(error)
                return

    def _hand_over(self, item: wire.Event | Exception) -> None:
        while not self._stopped.is_set():
            try:
                self._came.put(item, timeout=0.5)
            except queue.Full:
                continue
            return
