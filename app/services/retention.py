"""Deleting what nobody needs: by a federation's policy, and blobs that no row names.

A digest is stored once, so its bytes may be deleted by one process while another has just sent
them again. Both orders have to end with a living row over bytes, or a tombstone (a row whose
`purged_at` is set). The row decides, and this is how:

- A deleter first makes the row a tombstone and commits (`purge_page`, `bury_orphans`); only then,
  in a transaction of its own that holds the row's lock, and only if it still is *that* tombstone,
  it deletes the bytes (`delete_blob`). Killed in between, it leaves a tombstone with bytes: the
  sweep of orphans finds them.
- An uploader publishes first (a no-op where the bytes are there) and records the row then. A
  living row is touched, a new one written; neither can have been deleted under it, because a
  deleter makes a tombstone first. On a tombstone it cannot know whether its publishing came
  before or after the deletion, so it takes the row's lock, looks into the store, and revives the
  row only over bytes that are there (`revive`); else it sends them again.

So these two calls of the store, a deletion and a look, happen inside a transaction, against the
rule, each alone in it. No clock takes part in that; the grace period only spares what was sent
and is about to be named.

What comes to name an artifact, or to hold it, waits for `lock_kept` by its foreign key, by
`checkpoints.pin` or by `pin_round`, and what is planned after that lock knows of it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import structlog

from app.db import federations as federation_rows
from app.db import marks
from app.db import retention as rows
from app.db.retention import Tombstone
from app.domain.errors import StorageUnavailableError
from app.domain.permissions import Action
from app.domain.retention import KEEP_EVERYTHING, ArtifactFacts, expendable
from app.services.checkpoints import NewBlob
from app.services.principals import Membership
from app.services.transactions import Transactions, Tx
from app.storage.artifacts import PROBE_FEDERATION, Artifacts, StoredBlob
from hansa_core import wire

log = structlog.get_logger()

PAGE_ARTIFACTS = 500  # planned at once
EVENTS_AT_ONCE = 5_000  # deleted in one transaction
MAX_EVENT_BATCHES = 100  # in one go; the rest waits for the next one


@dataclass(frozen=True, slots=True)
class PurgedPage:
    """What one look at some artifacts led to."""

    tombstones: list[Tombstone]
    size: int  # bytes of those
    next_after: str | None  # where to go on; None: this was the last page


def claim(tx: Tx, work: str, *, now: datetime, every: timedelta) -> bool:
    """Take such work for this process; False when it was taken less than `every` ago."""
    return marks.claim(tx.session, work, now=now, every=every)


def policy_of(stored: dict[str, Any] | None) -> wire.Retention:
    """Return the policy in a federation's row."""
    return KEEP_EVERYTHING if stored is None else wire.Retention.model_validate(stored)


def preview(
    tx: Tx,
    membership: Membership,
    policy: wire.Retention | None,
    *,
    now: datetime,
    grace: timedelta,
) -> wire.RetentionPreview:
    """Say what a policy, the present one by default, would delete now.

    Raises:
        ForbiddenError.
    """
    membership.require(Action.READ)
    federation_id = membership.federation_id
    if policy is None:
        policy = policy_of(federation_rows.get_federation(tx.session, federation_id).retention)
    updates: list[int] = []  # sizes in bytes
    checkpoints: list[int] = []
    unreferenced: list[int] = []
    for page in _pages(tx, federation_id, policy, now=now, grace=grace):
        found = rows.facts(tx.session, federation_id, page)
        going = expendable(found, policy, now=now, grace=grace)
        as_checkpoint = {item.digest for item in found.checkpoints}
        as_update = {item.digest for item in found.updates}
        for item in page:
            if item.digest in going:
                if item.digest in as_checkpoint:
                    checkpoints.append(item.size)
                else:
                    (updates if item.digest in as_update else unreferenced).append(item.size)
    events = 0
    if policy.events_days is not None:
        before = now - timedelta(days=policy.events_days)
        events = rows.count_events(tx.session, federation_id, before=before)
    return wire.RetentionPreview(
        policy=policy,
        updates=len(updates),
        updates_bytes=sum(updates),
        checkpoints=len(checkpoints),
        checkpoints_bytes=sum(checkpoints),
        unreferenced=len(unreferenced),
        unreferenced_bytes=sum(unreferenced),
        events=events,
    )


def apply(
    transactions: Transactions, artifacts: Artifacts, *, now: datetime, grace: timedelta
) -> None:
    """Delete what every federation's policy lets go, in short transactions.

    Repeatable, and safe beside itself.

    Raises:
        StorageUnavailableError: the store failed; what is a tombstone by then is swept later.
    """
    with transactions.reading() as tx:
        policies = rows.policies(tx.session)
    for federation_id, stored in policies:
        policy = policy_of(stored)
        count, size, after = 0, 0, ""
        next_after: str | None = ""
        while next_after is not None:
            with transactions.begin("purge_artifacts") as tx:
                page = purge_page(tx, federation_id, policy, after=after, now=now, grace=grace)
                if page.tombstones:
                    tx.record(
                        "artifacts.purged",
                        federation_id=federation_id,
                        count=len(page.tombstones),
                        bytes=page.size,
                    )
            for tombstone in page.tombstones:
                delete_blob(transactions, artifacts, tombstone)
            count, size = count + len(page.tombstones), size + page.size
            next_after = page.next_after
            after = next_after or after
        events = _drop_events(transactions, federation_id, policy, now=now)
        if count or events:
            log.info(
                "retention_applied",
                federation_id=str(federation_id),
                artifacts=count,
                bytes=size,
                events=events,
            )


def purge_page(
    tx: Tx,
    federation_id: UUID,
    policy: wire.Retention,
    *,
    after: str,
    now: datetime,
    grace: timedelta,
) -> PurgedPage:
    """Make tombstones of the expendable among the next artifacts. No byte is deleted here."""
    page = _candidates(tx, federation_id, policy, after=after, now=now, grace=grace)
    next_after = page[-1].digest if len(page) == PAGE_ARTIFACTS else None
    chosen = expendable(rows.facts(tx.session, federation_id, page), policy, now=now, grace=grace)
    if not chosen:
        return PurgedPage([], 0, next_after)
    # Once more, now that nothing can come to name them any more.
    locked = rows.lock_kept(tx.session, federation_id, chosen)
    going = expendable(rows.facts(tx.session, federation_id, locked), policy, now=now, grace=grace)
    if not going:
        return PurgedPage([], 0, next_after)
    tombstones = rows.mark_purged(tx.session, federation_id, going, now=now)
    size = sum(item.size for item in locked if item.digest in going)
    return PurgedPage(tombstones, size, next_after)


def sweep_orphans(
    transactions: Transactions, artifacts: Artifacts, *, now: datetime, grace: timedelta
) -> int:
    """Delete every blob older than `grace` that no living row names; return how many.

    Raises:
        StorageUnavailableError: the store failed; the next sweep goes on.
    """
    deleted = 0
    for page in artifacts.pages():
        old = [blob for blob in page if blob.modified_at <= now - grace]
        for blob in old:
            if blob.federation_id == PROBE_FEDERATION:
                artifacts.delete(blob.federation_id, blob.digest)
        if not old:
            continue
        with transactions.begin("bury_orphans") as tx:
            tombstones = bury_orphans(tx, old, now=now)
        for tombstone in tombstones:
            deleted += delete_blob(transactions, artifacts, tombstone)
    if deleted:
        log.info("orphans_deleted", count=deleted)
    return deleted


def bury_orphans(tx: Tx, blobs: Sequence[StoredBlob], *, now: datetime) -> list[Tombstone]:
    """Return a tombstone of each of the blobs that no living row names."""
    named = [(blob.federation_id, blob.digest, blob.size) for blob in blobs]
    return rows.bury(tx.session, named, now=now)


def delete_blob(transactions: Transactions, artifacts: Artifacts, tombstone: Tombstone) -> bool:
    """Delete the bytes under a tombstone; False when somebody revived it meanwhile.

    Raises:
        StorageUnavailableError: the store failed.
    """
    with transactions.begin("delete_blob") as tx:
        if not rows.take_purged(tx.session, tombstone):
            return False
        artifacts.delete(tombstone.federation_id, tombstone.digest)
        return True


def revive(
    tx: Tx, artifacts: Artifacts, federation_id: UUID, blob: NewBlob, *, now: datetime
) -> wire.BlobReceipt:
    """Give a tombstone its life back, over bytes that were published just before.

    Raises:
        StorageUnavailableError: they were deleted meanwhile, or the store failed: send them again.
    """
    row = rows.lock_artifact(tx.session, federation_id, blob.digest)
    assert row is not None  # rows of artifacts are never deleted
    if row.purged_at is not None:
        if artifacts.stat(federation_id, blob.digest) is None:
            raise StorageUnavailableError(
                f"artifact {blob.digest} was deleted, by the retention policy, while it was sent; "
                "send it again"
            )
        row.purged_at = None
        row.layout = blob.layout.to_json()
        row.encoding = blob.encoding
        row.size = blob.size
    row.created_at = now
    tx.audit("artifact.uploaded", federation_id=federation_id, digest=blob.digest, size=blob.size)
    return wire.BlobReceipt(digest=blob.digest, size=blob.size)


def revive_purged(
    tx: Tx, artifacts: Artifacts, federation_id: UUID, blobs: Iterable[NewBlob], *, now: datetime
) -> None:
    """Revive those of the blobs, all published just before, that are tombstones.

    Raises:
        StorageUnavailableError: as `revive`.
    """
    for blob in blobs:
        row = rows.lock_artifact(tx.session, federation_id, blob.digest)
        if row is not None and row.purged_at is not None:
            revive(tx, artifacts, federation_id, blob, now=now)


def _drop_events(
    transactions: Transactions, federation_id: UUID, policy: wire.Retention, *, now: datetime
) -> int:
    if policy.events_days is None:
        return 0
    before = now - timedelta(days=policy.events_days)
    dropped = 0
    for _ in range(MAX_EVENT_BATCHES):
        with transactions.begin("drop_events") as tx:
            count = rows.delete_events(
                tx.session, federation_id, before=before, limit=EVENTS_AT_ONCE
            )
        dropped += count
        if count < EVENTS_AT_ONCE:
            break
    return dropped


def _candidates(
    tx: Tx,
    federation_id: UUID,
    policy: wire.Retention,
    *,
    after: str,
    now: datetime,
    grace: timedelta,
) -> tuple[ArtifactFacts, ...]:
    return rows.candidates(
        tx.session,
        federation_id,
        before=now - grace,
        after=after,
        # Without a policy only what nobody refers to can go: no need to look at the rest.
        unreferenced=policy == KEEP_EVERYTHING,
        limit=PAGE_ARTIFACTS,
    )


def _pages(
    tx: Tx, federation_id: UUID, policy: wire.Retention, *, now: datetime, grace: timedelta
) -> Iterator[tuple[ArtifactFacts, ...]]:
    after = ""
    while True:
        page = _candidates(tx, federation_id, policy, after=after, now=now, grace=grace)
        if page:
            yield page
        if len(page) < PAGE_ARTIFACTS:
            return
        after = page[-1].digest
