"""Uploads in chunks: opened, filled in any order, checked while they grow, completed.

The store has the state (app/storage/uploads.py); a Desk is what one hub process adds to it: the
inspectors of the uploads it takes part in. While chunks arrive it inspects those that follow each
other from the first one on, so that little is left when the upload is completed. A process that
joins late, after a restart or as another replica, reads what is there from the start. A refusal
ends the upload: what was sent is forgotten, and the owner starts anew.

Order at the end, because a hub may be killed anywhere: publish the artifact, record its row,
settle the upload. Whoever completes again after such a kill checks again and gets the receipt.

Whether the owner has the artifact already is told by the mark that `settle` left and by nothing
else: a digest that somebody else uploaded says nothing to him.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Hashable, Iterable

import structlog

from app.domain.errors import (
    ArtifactMissingError,
    ArtifactPurgedError,
    DigestMismatchError,
    DomainError,
    StorageUnavailableError,
    TooLargeError,
    UpdateRefusedError,
    UploadIncompleteError,
)
from app.services import checkpoints
from app.services.checkpoints import NewBlob
from app.services.transactions import Transactions
from app.services.upload_terms import Terms
from app.storage.artifacts import Artifacts
from app.storage.uploads import ChunkReader, Piece, Upload, UploadKey
from hansa_core import wire
from hansa_core.chunks import SHUFFLED, ChunkPlan, describe_runs, plan_chunks, ranges_of
from hansa_core.codecs.inspection import Inspector
from hansa_core.inspection import Inspection
from hansa_core.problems import CoreError

log = structlog.get_logger()

MAX_WORKS = 64  # uploads whose inspectors a process keeps
GRANT_SECONDS = 10.0  # that a proof, looked up in the database once, is good for chunks
DECODED_AT_ONCE = 4  # compressed chunks in memory beside what they decode to
WRITES_AT_ONCE = 8  # chunks that are being stored; more of them wait without a thread

Record = Callable[[NewBlob], Awaitable[tuple[wire.BlobReceipt, bool]]]


class Desk:
    """The uploads that this process takes part in. For one event loop."""

    def __init__(
        self, artifacts: Artifacts, transactions: Transactions, *, checks_at_once: int
    ) -> None:
        self._artifacts = artifacts
        self._transactions = transactions
        self._works: OrderedDict[UploadKey, _Work] = OrderedDict()
        self._checks = asyncio.Semaphore(checks_at_once)
        self._writes = asyncio.Semaphore(WRITES_AT_ONCE)
        self.decoding = asyncio.Semaphore(DECODED_AT_ONCE)

    def granted(self, key: UploadKey, proof: Hashable) -> Terms | None:
        """Return the terms if this proof opened the upload a moment ago; None: look it up."""
        work = self._works.get(key)
        if work is None or work.proof != proof or time.monotonic() > work.granted_until:
            return None
        return work.terms

    async def open(
        self, key: UploadKey, message: wire.UploadOpen, terms: Terms, proof: Hashable = None
    ) -> wire.Upload:
        """Begin or look up an upload; return how far it is, and where missing chunks can be PUT.

        Raises:
            TooLargeError, TooManyUploadsError, StorageFullError, StorageUnavailableError.
        """
        if message.size > terms.max_bytes:
            raise TooLargeError(
                f"the upload has {message.size} bytes, {terms.max_bytes} are allowed"
            )
        plan = plan_chunks(message.size, message.chunk_bytes)
        if await self._receipt_of(key) is not None:
            return _told(key, plan, [(0, plan.count)], complete=True)
        now = self._transactions.now()
        upload = await asyncio.to_thread(self._artifacts.uploads.open, key, plan, now=now)
        work = self._works.get(key)
        if work is None or work.refusal is not None or work.plan != upload.plan:
            self._drop(key)
            work = self._adopt(key, upload, terms)
        work.grant(proof)
        work.present = bytearray(await asyncio.to_thread(upload.present))
        self._check_on(key, work)
        told = _told(key, upload.plan, ranges_of(work.present))
        if not message.direct:
            return told
        missing = [index for index, there in enumerate(work.present) if not there]
        asked = missing[: wire.MAX_CHUNK_URLS]
        urls = await asyncio.to_thread(upload.addresses, asked)
        links = [wire.ChunkUrl(index=i, url=url) for i, url in zip(asked, urls, strict=False)]
        return told.model_copy(update={"urls": links})

    async def plan(self, key: UploadKey, terms: Terms, proof: Hashable = None) -> ChunkPlan:
        """Return how an upload in progress is cut.

        Raises:
            UploadIncompleteError: it is not in progress.
            UpdateRefusedError: what came of it so far was refused.
        """
        work = await self._work(key, terms)
        if work is None:
            raise _not_open(key)
        work.grant(proof)
        work.require_wanted()
        return work.plan

    async def store(self, key: UploadKey, index: int, pieces: Iterable[Piece]) -> None:
        """Store a chunk, after `plan`; its bytes are those that were announced.

        Raises:
            UploadIncompleteError: the upload is over.
            StorageFullError, StorageUnavailableError.
        """
        work = self._works.get(key)
        if work is None:
            raise _not_open(key)
        try:
            async with self._writes:
                await asyncio.to_thread(work.upload.store, index, pieces)
        except UploadIncompleteError:
            self._drop(key, work)
            raise
        work.present[index] = 1
        self._check_on(key, work)

    async def complete(
        self, key: UploadKey, terms: Terms, record: Record
    ) -> tuple[wire.BlobReceipt, bool]:
        """Check what is left, publish and record the artifact; tell whether it is new.

        Raises:
            UploadIncompleteError: chunks are missing, or there is no such upload.
            UpdateRefusedError, DigestMismatchError: the bytes; the upload is forgotten.
            StorageFullError, StorageUnavailableError.
        """
        work = await self._work(key, terms)
        if work is not None:
            try:
                async with work.lock:
                    return await self._complete(key, work, record)
            except UploadIncompleteError:
                # Another replica may have completed it meanwhile.
                if (receipt := await self._receipt_of(key)) is None:
                    raise
                return receipt, False
            finally:
                work.close_if_over()
        receipt = await self._receipt_of(key)
        if receipt is None:
            raise _not_open(key)
        return receipt, False

    async def close(self) -> None:
        """Stop checking, and free what that holds."""
        tasks = [work.checking for work in self._works.values() if work.checking is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for key in list(self._works):
            self._drop(key)

    async def _complete(
        self, key: UploadKey, work: "_Work", record: Record
    ) -> tuple[wire.BlobReceipt, bool]:
        if work.receipt is not None:
            return work.receipt, False
        work.require_wanted()
        try:
            work.present = bytearray(await asyncio.to_thread(work.upload.present))
        except UploadIncompleteError:
            self._drop(key, work)
            raise
        _require_all(key, work.present)
        try:
            await self._check(work)
            inspection = _finished(work.inspector, key)
            await asyncio.to_thread(work.opened().publish, key.digest)
        except (UploadIncompleteError, StorageUnavailableError):
            self._drop(key, work)  # what is there is read anew
            raise
        except DigestMismatchError:
            await self._forget(key, work)
            raise
        except CoreError as error:
            await self._forget(key, work)
            raise _refused(error) from error
        blob = work.terms.blob(inspection)
        work.receipt, created = await record(blob)
        await asyncio.to_thread(work.upload.settle)
        self._drop(key, work)
        return work.receipt, created

    async def _forget(self, key: UploadKey, work: "_Work") -> None:
        await asyncio.to_thread(work.upload.discard)
        self._drop(key, work)

    def _check_on(self, key: UploadKey, work: "_Work") -> None:
        """Let a task of its own inspect what can be, unless one is at it."""
        if work.is_behind and (work.checking is None or work.checking.done()):
            work.checking = asyncio.create_task(self._check_behind(key, work))

    async def _check_behind(self, key: UploadKey, work: "_Work") -> None:
        try:
            async with work.lock:
                if work.receipt is None and work.refusal is None:
                    await self._check(work)
        except CoreError as error:
            work.refusal = error
            log.info("upload_refused", digest=key.digest, owner=key.owner, reason=str(error))
            await asyncio.to_thread(work.upload.discard)
        except DomainError as error:  # the store: whoever completes the upload finds out
            log.warning("upload_check_failed", digest=key.digest, error=str(error))
        finally:
            work.close_if_over()

    async def _check(self, work: "_Work") -> None:
        """Inspect the chunks that follow the inspected ones. The caller holds `work.lock`."""
        while work.is_behind:
            async with self._checks:
                await asyncio.to_thread(work.check_next)

    async def _work(self, key: UploadKey, terms: Terms) -> "_Work | None":
        work = self._works.get(key)
        if work is None:
            upload = await asyncio.to_thread(self._artifacts.uploads.find, key)
            if upload is None:
                return None
            work = self._works.get(key) or self._adopt(key, upload, terms)
        self._works.move_to_end(key)
        return work

    def _adopt(self, key: UploadKey, upload: Upload, terms: Terms) -> "_Work":
        for other in list(self._works)[: max(0, len(self._works) - MAX_WORKS + 1)]:
            if not self._works[other].lock.locked():
                self._drop(other)
        work = self._works[key] = _Work(upload, terms)
        return work

    def _drop(self, key: UploadKey, work: "_Work | None" = None) -> None:
        """Forget a work of this process: that one, or whichever there is."""
        found = self._works.get(key)
        if found is not None and work in (None, found):
            del self._works[key]
        over = work or found
        if over is not None:
            over.is_over = True
            over.close_if_over()

    async def _receipt_of(self, key: UploadKey) -> wire.BlobReceipt | None:
        """Return the receipt of what this owner completed a while ago, if it still is stored."""
        uploads = self._artifacts.uploads
        if not await asyncio.to_thread(uploads.is_settled, key):
            return None
        try:
            blob = await self._transactions.run(
                "find_uploaded",
                lambda tx: checkpoints.find_blob(tx, key.federation_id, key.digest),
            )
        except (ArtifactMissingError, ArtifactPurgedError):
            await asyncio.to_thread(uploads.forget_settled, key)
            return None
        return wire.BlobReceipt(digest=blob.digest, size=blob.size)


class _Work:
    """One upload as this process sees it."""

    def __init__(self, upload: Upload, terms: Terms) -> None:
        self.upload = upload
        self.terms = terms
        self.plan = upload.plan
        self.present = bytearray(upload.plan.count)  # 1: there, as far as this process knows
        self.lock = asyncio.Lock()  # of whoever inspects
        self.checking: asyncio.Task[None] | None = None
        self.refusal: CoreError | None = None
        self.receipt: wire.BlobReceipt | None = None
        self.proof: Hashable = None
        self.granted_until = 0.0  # monotonic seconds
        self.is_over = False  # no longer the process's; who holds the lock closes it
        self.inspector = terms.inspector()
        self._next = 0  # the chunk to be inspected
        self._reader: ChunkReader | None = None

    @property
    def is_behind(self) -> bool:
        """Whether the next chunk to be inspected is there."""
        return self._next < len(self.present) and bool(self.present[self._next])

    def grant(self, proof: Hashable) -> None:
        """Remember a proof that was just found good."""
        self.proof = proof
        self.granted_until = time.monotonic() + GRANT_SECONDS

    def require_wanted(self) -> None:
        """Raise UpdateRefusedError if the bytes so far were refused."""
        if self.refusal is not None:
            raise _refused(self.refusal) from self.refusal

    def opened(self) -> ChunkReader:
        """Return the reader."""
        if self._reader is None:
            self._reader = self.upload.reader()
        return self._reader

    def check_next(self) -> None:
        """Inspect one chunk. Raises CoreError; after a failure of the store it starts anew."""
        try:
            for piece in self.opened().take(self._next):
                self.inspector.feed(piece)
        except DomainError:
            self._close()
            self.inspector = self.terms.inspector()
            self._next = 0
            raise
        self._next += 1

    def close_if_over(self) -> None:
        """Free the reader of a work that is over, unless somebody uses it. Repeatable."""
        if self.is_over and not self.lock.locked():
            self._close()

    def _close(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


def _told(
    key: UploadKey, plan: ChunkPlan, have: list[tuple[int, int]], *, complete: bool = False
) -> wire.Upload:
    return wire.Upload(
        digest=key.digest,
        size=plan.size,
        chunk_bytes=plan.chunk_bytes,
        chunks=plan.count,
        have=have,
        complete=complete,
        encodings=[SHUFFLED],
    )


def _finished(inspector: Inspector, key: UploadKey) -> Inspection:
    inspection = inspector.finish()
    if inspection.digest_hex != key.digest:
        raise DigestMismatchError(
            f"the upload's SHA-256 is {inspection.digest_hex}, announced was {key.digest}; it is "
            "forgotten"
        )
    return inspection


def _require_all(key: UploadKey, present: bytearray) -> None:
    missing = ranges_of(not there for there in present)
    if missing:
        raise UploadIncompleteError(
            f"the upload of {key.digest} lacks the chunks {describe_runs(missing)} of its "
            f"{len(present)}; send them first"
        )


def _not_open(key: UploadKey) -> UploadIncompleteError:
    return UploadIncompleteError(
        f"no upload of {key.digest} is in progress here: it was never opened, was refused, or "
        "rested for a day; open it with PUT"
    )


def _refused(error: CoreError) -> UpdateRefusedError:
    return UpdateRefusedError(str(error))
