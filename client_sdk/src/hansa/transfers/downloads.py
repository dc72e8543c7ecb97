"""Files from the hub: small ones in one request, large ones by several ranges at once.

Over a link that turns out fast, what is left of a large one comes as one range: there each request
costs more than it gains, and a file that was damaged is soon fetched anew.

Invariants: a file appears under its name only with the size and SHA-256 it should have; what an
earlier process left, or a cut, is gone on from; every byte is hashed once, in order, while later
ones are still on their way.

    <name>.part       the bytes, with holes
    <name>.map.part   of a file in chunks: how it is cut, then one byte a chunk, 1 where it is there
"""

import hashlib
import os
import struct
import time
from http import HTTPStatus
from pathlib import Path
from typing import Self

from hansa.bulk import BulkResponse
from hansa.errors import (
    BadAnswerError,
    CorruptDownloadError,
    RefusedError,
    RetryableError,
    UnreachableError,
)
from hansa.stores import at_store
from hansa.transfers.files import READ_BYTES
from hansa.transfers.lanes import Counted, Course, run_lanes
from hansa.transfers.options import TransferOptions
from hansa.transfers.streams import OnBytes, Part, fetch_stream
from hansa.transport import MAX_JSON, Transport
from hansa_core.chunks import (
    CONTENT_DIGEST,
    DIGEST_KEY,
    FOLLOW,
    STORE,
    WANT_CONTENT_DIGEST,
    Checksum,
    ChunkPlan,
    plan_chunks,
    ranges_of,
)
from hansa_core.problems import ChunkError

LONGEST_RANGES = 4  # times the usual chunk
FAST_LINK = 12.5e6  # bytes per second from which on what is left comes as one range
MOST_DAMAGES = 5  # of one chunk, one after the other: then it is not chance

_HEAD = struct.Struct("<8sQQ")  # magic, size, chunk_bytes
_MAGIC = b"hansadn1"


def download_file(
    transport: Transport,
    path: str,
    target: Path,
    *,
    digest: str,
    size: int,
    options: TransferOptions | None = None,
    on_bytes: OnBytes | None = None,
) -> None:
    """GET `size` bytes into the file `target`, which appears only with the SHA-256 `digest`.

    What an earlier process left beside `target` is used. Attempts are counted afresh whenever new
    bytes came.

    Raises:
        CorruptDownloadError: the bytes have another digest, also when fetched anew.
        HansaError: as every call.
    """
    chosen = options or TransferOptions()
    part_path = target.with_name(target.name + ".part")
    map_path = target.with_name(target.name + ".map.part")
    for last_chance in (False, True):
        found = None
        if size > chosen.chunk_bytes:
            plan = plan_chunks(size, _range_bytes(size, chosen))
            fetching = _Fetching(
                transport, path, digest, plan, chosen, on_bytes, last_chance=last_chance
            )
            with _Parts(part_path, map_path, plan) as parts:
                try:
                    found = fetching.run(parts)
                except _NoRangesError:
                    parts.forget()
        if found is None:
            if map_path.exists():  # the file beside the target may have holes
                part_path.unlink(missing_ok=True)
                map_path.unlink()
            with Part(part_path, size) as part:
                fetch_stream(transport, path, part, chosen.download, on_bytes)
                found = part.digest()
        if found == digest:
            part_path.replace(target)
            map_path.unlink(missing_ok=True)
            return
        part_path.unlink()
        map_path.unlink(missing_ok=True)
        if last_chance:
            raise CorruptDownloadError(
                f"GET {transport.url}{path} gave {size} bytes with SHA-256 {found}, wanted {digest}"
            )


def _range_bytes(size: int, options: TransferOptions) -> int:
    """Return how long a range is: each costs the hub a look into its database.

    Longer than what is sent: bytes that came stay here, and a cut costs the ranges in flight.
    """
    return max(options.chunk_bytes, min(LONGEST_RANGES * options.chunk_bytes, size // 8))


class _NoRangesError(Exception):
    """The hub, or a proxy before it, sends the whole file whatever is asked for."""


class _Parts:
    """A download in chunks on its way: the bytes, and which chunks are there."""

    def __init__(self, part: Path, chart: Path, plan: ChunkPlan) -> None:
        self.plan = plan
        head = _HEAD.pack(_MAGIC, plan.size, plan.chunk_bytes)
        self.chart = bytearray(plan.count)
        self._chart_path = chart
        known = chart.read_bytes()[: _HEAD.size + plan.count] if chart.exists() else b""
        resumes = part.exists() and part.stat().st_size == plan.size and known.startswith(head)
        if resumes and len(known) == _HEAD.size + plan.count:
            self.chart[:] = known[_HEAD.size :]
        else:
            part.unlink(missing_ok=True)
            chart.write_bytes(head + bytes(plan.count))
        self._file = part.open("r+b" if part.exists() else "w+b", buffering=0)
        self._file.truncate(plan.size)
        self._map = chart.open("r+b", buffering=0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._map.close()

    def write(self, piece: bytes | memoryview, offset: int) -> None:
        """Write bytes of a chunk."""
        _write_at(self._file.fileno(), piece, offset)

    def mark(self, index: int) -> None:
        """Remember that a chunk is there."""
        _write_at(self._map.fileno(), b"\1", _HEAD.size + index)
        self.chart[index] = 1

    def read(self, buffer: memoryview, offset: int) -> int:
        """Read into `buffer`; return how many bytes."""
        return os.preadv(self._file.fileno(), [buffer], offset)

    def forget(self) -> None:
        """Forget what is there."""
        self._file.truncate(0)
        self._chart_path.unlink(missing_ok=True)


class _Fetching:
    """One file on its way in chunks."""

    def __init__(
        self,
        transport: Transport,
        path: str,
        digest: str,
        plan: ChunkPlan,
        options: TransferOptions,
        on_bytes: OnBytes | None,
        *,
        last_chance: bool,
    ) -> None:
        self._transport = transport
        self._path = path
        self._what = f"GET {transport.url}{path}"
        self._etag = f'"{digest}"'
        self._plan = plan
        self._options = options
        self._on_bytes = on_bytes
        self._direct = options.direct and not last_chance
        self._careful = last_chance  # every chunk with its checksum
        self._address: str | None = None  # of the store, once the hub named it
        self._course = Course(options.download)
        self._rate = 0.0  # bytes per second of the last request
        self._hash = hashlib.sha256()
        self._hashed = 0  # chunks, from the first one on
        self._buffer = memoryview(bytearray(min(READ_BYTES, plan.chunk_bytes)))

    def run(self, parts: _Parts) -> str:
        """Fetch what is missing until nothing is; return the SHA-256 of the whole."""
        attempt = 0
        while True:
            missing = [index for index, there in enumerate(parts.chart) if not there]
            left = sum(self._plan.length(index) for index in missing)
            self._course = Course(self._options.download, done=self._plan.size - left)
            try:
                self._run_lanes(parts, [range(index, index + 1) for index in missing[:1]])
                self._run_lanes(parts, self._cut(missing[1:]))
            except RetryableError as error:
                attempt = 1 if sum(parts.chart) > self._plan.count - len(missing) else attempt + 1
                self._transport.pause(attempt, error)
            else:
                return self._hash.hexdigest()

    def _run_lanes(self, parts: _Parts, runs: list[range]) -> None:
        run_lanes(
            self._course,
            runs,
            lambda run: self._fetch_run(parts, run),
            lanes=self._options.in_flight,
            watch=lambda: self._watch(parts),
        )

    def _cut(self, missing: list[int]) -> list[range]:
        """Return what each of the next requests asks for, as runs of chunks."""
        # Who takes bytes slower than they come has buffers full of them to lose by a cut.
        bound = self._options.download.rate is not None
        if self._rate < FAST_LINK or bound or self._careful:
            return [range(index, index + 1) for index in missing]
        absent = bytearray(self._plan.count)
        for index in missing:
            absent[index] = 1
        return [range(start, stop) for start, stop in ranges_of(absent)]

    def _watch(self, parts: _Parts) -> bool:
        """Hash the next chunk, if it is there, and tell how far the download is."""
        if self._on_bytes is not None:
            self._on_bytes(min(self._course.done, self._plan.size))
        if self._hashed == self._plan.count or not parts.chart[self._hashed]:
            return False
        start, stop = self._plan.span(self._hashed)
        for offset in range(start, stop, len(self._buffer)):
            piece = self._buffer[: min(len(self._buffer), stop - offset)]
            if parts.read(piece, offset) != len(piece):
                raise CorruptDownloadError(f"{self._what}: the file beside the target was cut")
            self._hash.update(piece)
        self._hashed += 1
        return True

    def _span(self, run: range) -> tuple[int, int]:
        return self._plan.span(run[0])[0], self._plan.span(run[-1])[1]

    def _fetch_run(self, parts: _Parts, run: range) -> None:
        """Fetch a run of chunks by one request. For a lane."""
        for attempt in range(1, MOST_DAMAGES + 1):
            got = Counted(self._course)
            began = time.monotonic()
            try:
                if not self._fetch_direct(parts, run, got):
                    self._fetch_from_hub(parts, run, got)
            except ChunkError as error:
                got.take_back()
                if attempt == MOST_DAMAGES:
                    raise CorruptDownloadError(f"{self._what}: {error}") from error
            except BaseException:
                got.take_back()
                raise
            else:
                start, stop = self._span(run)
                self._rate = (stop - start) / max(time.monotonic() - began, 1e-6)
                return

    def _fetch_from_hub(self, parts: _Parts, run: range, got: "Counted") -> None:
        start, stop = self._span(run)
        headers = {
            "Accept": "application/octet-stream",
            "Accept-Encoding": "identity",
            "Range": f"bytes={start}-{stop - 1}",
            "If-Range": self._etag,
        }
        if len(run) == 1:
            headers[WANT_CONTENT_DIGEST] = f"{DIGEST_KEY}=1"
        if self._direct:
            headers[FOLLOW] = STORE
        with self._transport.exchange_bulk(
            "GET", self._path, headers=headers, redirects=self._direct
        ) as response:
            if response.status != HTTPStatus.TEMPORARY_REDIRECT:
                self._take(response, parts, run, got)
                return
            response.read(MAX_JSON)
            self._address = response.headers.get("Location") or ""
        if not self._fetch_direct(parts, run, got):
            raise RetryableError(f"{self._what}: the hub's store cannot be used from here")

    def _fetch_direct(self, parts: _Parts, run: range, got: "Counted") -> bool:
        """Fetch a run from the store; False where that cannot be."""
        address = self._address
        if not self._direct or not address:
            return False
        start, stop = self._span(run)
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        client, hub = self._transport.bulk, self._transport.url
        try:
            with at_store(client, hub, "GET", address, headers=headers) as response:
                self._take(response, parts, run, got)
        except UnreachableError:
            self._direct = False  # it may be out of reach from here; the hub is not
            raise
        except RefusedError:  # the address expired: the hub names another one
            self._address = None
            return False
        return True

    def _take(self, response: BulkResponse, parts: _Parts, run: range, got: Counted) -> None:
        """Write a run's bytes as they come. Raises ChunkError, _NoRangesError, HansaError.

        Of several chunks each is marked once it is there; of one, its checksum is looked at first.
        """
        start, stop = self._span(run)
        what = f"chunk {run[0]}" if len(run) == 1 else f"chunks {run[0]}-{run[-1]}"
        if response.status != HTTPStatus.PARTIAL_CONTENT:
            raise _NoRangesError
        served = response.headers.get("Content-Range") or ""
        if not served.startswith(f"bytes {start}-{stop - 1}/"):
            raise BadAnswerError(
                f"{self._what}: got the range {served[:80]!r}, wanted {start}-{stop - 1}"
            )
        checksum = Checksum() if len(run) == 1 else None
        offset, index = start, run[0]
        for piece in response.pieces():
            self._course.pass_on(len(piece))
            if offset + len(piece) > stop:
                raise BadAnswerError(f"{self._what}: {what} goes on after {stop - start} bytes")
            parts.write(piece, offset)
            offset += len(piece)
            got.add(len(piece))
            if checksum is not None:
                checksum.update(piece)
                continue
            while index < run.stop and offset >= self._plan.span(index)[1]:
                parts.mark(index)
                got.keep(self._plan.length(index))
                index += 1
        if offset != stop:
            raise RetryableError(f"{self._what}: {what} ended after {offset - start} bytes")
        if checksum is not None:
            told = response.headers.get(CONTENT_DIGEST)
            if told is not None:
                checksum.require(told, what)
            parts.mark(index)


def _write_at(handle: int, piece: bytes | memoryview, offset: int) -> None:
    rest = memoryview(piece)
    while rest.nbytes:
        written = os.pwrite(handle, rest, offset)
        rest = rest[written:]
        offset += written
