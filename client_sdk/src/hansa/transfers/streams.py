"""A file from the hub in one stream, gone on with where it was cut."""

import hashlib
import time
from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import Self

from hansa.errors import BadAnswerError, RetryableError
from hansa.transfers.files import READ_BYTES
from hansa.transfers.throttles import Throttle
from hansa.transport import Transport

OnBytes = Callable[[int], None]  # told how many bytes are done so far


def fetch_stream(
    transport: Transport, path: str, part: "Part", throttle: Throttle, on_bytes: OnBytes | None
) -> None:
    """GET what `part` still lacks. Attempts count afresh when bytes came. Raises HansaError."""
    attempt = 0
    while part.size < part.wanted:
        before = part.size
        try:
            _fetch_rest(transport, path, part, throttle, on_bytes)
        except RetryableError as error:
            attempt = 1 if part.size > before else attempt + 1
            transport.pause(attempt, error)


def _fetch_rest(
    transport: Transport, path: str, part: "Part", throttle: Throttle, on_bytes: OnBytes | None
) -> None:
    what = f"GET {transport.url}{path}"
    headers = {"Accept": "application/octet-stream"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
    with transport.exchange_bulk("GET", path, headers=headers) as response:
        if response.status == HTTPStatus.PARTIAL_CONTENT:
            served = response.headers.get("Content-Range") or ""
            if not served.startswith(f"bytes {part.size}-"):
                raise BadAnswerError(f"{what}: got the range {served!r}, wanted from {part.size}")
        else:
            part.restart()
        for piece in response.pieces():
            time.sleep(throttle.take(len(piece)))
            part.write(piece)
            if on_bytes is not None:
                on_bytes(part.size)
    if part.size < part.wanted:
        raise RetryableError(f"{what} ended after {part.size} of {part.wanted} bytes")


class Part:
    """A download on its way: a file, its length and the hash of what it holds so far."""

    def __init__(self, path: Path, wanted: int) -> None:
        self.wanted = wanted  # bytes
        self.size = 0  # bytes so far
        self._path = path
        self._hash = hashlib.sha256()
        self._file = path.open("a+b")
        self._file.seek(0)
        while piece := self._file.read(READ_BYTES):
            self._hash.update(piece)
            self.size += len(piece)
        if self.size > wanted:
            self.restart()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def restart(self) -> None:
        """Forget what is there."""
        if self.size:
            self._file.truncate(0)
            self._hash = hashlib.sha256()
            self.size = 0

    def write(self, piece: memoryview) -> None:
        """Append `piece`. Raises BadAnswerError when that is more than was announced."""
        if self.size + len(piece) > self.wanted:
            raise BadAnswerError(f"{self._path}: got more bytes than the {self.wanted} announced")
        self._file.write(piece)
        self._hash.update(piece)
        self.size += len(piece)

    def digest(self) -> str:
        """Return the SHA-256 of everything so far, lower-case hex."""
        return self._hash.hexdigest()
