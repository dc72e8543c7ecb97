"""Files to and from the hub, streamed in bounded memory.

Invariants: a downloaded file appears under its name only with the size and SHA-256 it should
have; a cut download goes on where it stopped; bytes are hashed while they are written, not read
again. An upload is repeated from its first byte: blobs are named by their digest, so the hub
takes the same bytes twice without harm.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Self

from hansa.errors import BadAnswerError, CorruptDownloadError, LocalError, RetryableError
from hansa.transport import AnswerT, Transport, read_bounded

CHUNK = 1 << 20  # bytes per read of a file
SLOWEST_STORE = 10e6  # bytes per second at which a hub may take in what it was sent

OnBytes = Callable[[int], None]  # told how many bytes are done so far


def upload_file(
    transport: Transport,
    path: str,
    source: Path,
    answer: type[AnswerT],
    *,
    size: int,
    headers: Mapping[str, str] | None = None,
    on_bytes: OnBytes | None = None,
) -> AnswerT:
    """PUT the `size` bytes of the file `source` and return the answer. Raises HansaError."""
    sent = {
        **(headers or {}),
        "Content-Type": "application/octet-stream",
        "Content-Length": str(size),
    }

    def once() -> bytes:
        with transport.exchange(
            "PUT",
            path,
            stream=lambda: _chunks_of(source, size, on_bytes),
            headers=sent,
            wait_seconds=size / SLOWEST_STORE,
        ) as response:
            return read_bounded(response)

    return transport.parsed(transport.repeat(once), answer, f"PUT {transport.url}{path}")


def download_file(
    transport: Transport,
    path: str,
    target: Path,
    *,
    digest: str,
    size: int,
    on_bytes: OnBytes | None = None,
) -> None:
    """GET `size` bytes into the file `target`, which appears only with the SHA-256 `digest`.

    What an earlier process left in `target`.part is used. Attempts are counted afresh whenever
    new bytes came.

    Raises:
        CorruptDownloadError: the bytes have another digest, also when fetched anew.
        HansaError: as every call.
    """
    part_path = target.with_name(target.name + ".part")
    for last_chance in (False, True):
        with _Part(part_path, size) as part:
            if part.size < size:
                _fetch(transport, path, part, on_bytes)
            found = part.digest()
        if found == digest:
            part_path.replace(target)
            return
        part_path.unlink()
        if last_chance:
            raise CorruptDownloadError(
                f"GET {transport.url}{path} gave {size} bytes with SHA-256 {found}, wanted {digest}"
            )


def digest_file(path: Path) -> tuple[str, int]:
    """Return the SHA-256 (lower-case hex) and the size in bytes of a file. Raises OSError."""
    hasher = hashlib.sha256()
    size = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
            size += len(chunk)
    return hasher.hexdigest(), size


def _fetch(transport: Transport, path: str, part: "_Part", on_bytes: OnBytes | None) -> None:
    attempt = 0
    while True:
        before = part.size
        try:
            return _fetch_rest(transport, path, part, on_bytes)
        except RetryableError as error:
            attempt = 1 if part.size > before else attempt + 1
            transport.pause(attempt, error)


def _fetch_rest(transport: Transport, path: str, part: "_Part", on_bytes: OnBytes | None) -> None:
    what = f"GET {transport.url}{path}"
    headers = {"Accept": "application/octet-stream", "Accept-Encoding": "identity"}
    if part.size:
        headers["Range"] = f"bytes={part.size}-"
    with transport.exchange("GET", path, headers=headers) as response:
        if response.status_code == HTTPStatus.PARTIAL_CONTENT:
            served = response.headers.get("Content-Range", "")
            if not served.startswith(f"bytes {part.size}-"):
                raise BadAnswerError(f"{what}: got the range {served!r}, wanted from {part.size}")
        else:
            part.restart()
        for chunk in response.iter_raw():
            part.write(chunk)
            if on_bytes is not None:
                on_bytes(part.size)
    if part.size < part.wanted:
        raise RetryableError(f"{what} ended after {part.size} of {part.wanted} bytes")


class _Part:
    """A download on its way: a file, its length and the hash of what it holds so far."""

    def __init__(self, path: Path, wanted: int) -> None:
        self.wanted = wanted  # bytes
        self.size = 0  # bytes so far
        self._path = path
        self._hash = hashlib.sha256()
        self._file = path.open("a+b")
        self._file.seek(0)
        while chunk := self._file.read(CHUNK):
            self._hash.update(chunk)
            self.size += len(chunk)
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

    def write(self, chunk: bytes) -> None:
        """Append `chunk`. Raises BadAnswerError when that is more than was announced."""
        if self.size + len(chunk) > self.wanted:
            raise BadAnswerError(f"{self._path}: got more bytes than the {self.wanted} announced")
        self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def digest(self) -> str:
        """Return the SHA-256 of everything so far, lower-case hex."""
        return self._hash.hexdigest()


def _chunks_of(source: Path, size: int, on_bytes: OnBytes | None) -> Iterator[bytes]:
    sent = 0
    with source.open("rb", buffering=0) as file:
        while sent < size and (chunk := file.read(min(CHUNK, size - sent))):
            yield chunk
            sent += len(chunk)
            if on_bytes is not None:
                on_bytes(sent)
    if sent < size:
        raise LocalError(f"{source} has {sent} bytes, wanted {size}: did something change it?")
