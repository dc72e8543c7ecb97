"""The audit log as people read it, and the entries of what is no event.

Everything else is audited by recording it in a transaction that has an actor
(app/services/transactions.py).
"""

import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

import structlog

from app.db import audit as rows
from app.services.checkpoints import Blob
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.audit import write_line

log = structlog.get_logger()

EXPORT_PAGE = 200  # entries in memory at once

# Whoever guesses passwords must not be able to fill a log that nobody can ever shorten: no refusal
# is entered while REFUSALS of the newest NEWEST entries are refusals of the last minute.
REFUSED = "session.refused"
REFUSALS = 100
NEWEST = 200
ONE_TAKING = timedelta(minutes=10)  # in which ranges of one blob count as one download
MOST_TAKINGS = 10_000  # remembered at once

REFUSALS_WITHIN = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which entries to list; None: any."""

    actor: str | None = None
    action: str | None = None  # how it starts
    since: datetime | None = None
    until: datetime | None = None  # exclusive


def list_entries(
    tx: Tx, federation_id: UUID | None, wanted: Wanted, *, before: int | None, limit: int
) -> Sequence[wire.AuditEntry]:
    """Return entries of a chain, newest first. None: the hub's chain."""
    found = rows.newest(
        tx.session,
        federation_id,
        actor=wanted.actor,
        action=wanted.action,
        since=wanted.since,
        until=wanted.until,
        before=before,
        limit=limit,
    )
    return [
        wire.AuditEntry.model_validate({**json.loads(sealed.body), "digest": sealed.digest})
        for sealed in found
    ]


def get_head(tx: Tx, federation_id: UUID | None) -> wire.AuditHead:
    """Return the number and digest of a chain's newest entry."""
    head = rows.head(tx.session, federation_id)
    if head is None:
        return wire.AuditHead(number=0, digest=None)
    return wire.AuditHead(number=head.number, digest=head.digest)


def export_page(
    tx: Tx, federation_id: UUID | None, *, after: int, upto: int
) -> tuple[bytes, int] | None:
    """Return the lines of the entries after the number `after` and the number they end with.

    At most EXPORT_PAGE of them, oldest first; None when there are none up to `upto`.
    """
    found = rows.after(tx.session, federation_id, number=after, upto=upto, limit=EXPORT_PAGE)
    if not found:
        return None
    return b"".join(write_line(sealed) for _, sealed in found), found[-1][0]


def note_export(tx: Tx, federation_id: UUID | None, *, after: int) -> None:
    """Enter that somebody takes the log from `after` on."""
    tx.audit("audit.exported", federation_id=federation_id, after=after)


def note_download(
    tx: Tx, blob: Blob, *, part: str | None, checkpoint_id: UUID | None = None
) -> None:
    """Enter that somebody takes a model; `part` is the request's Range."""
    about: dict[str, str] = {"digest": blob.digest}
    if part is not None:
        about["range"] = part[:100]
    if checkpoint_id is None:
        tx.audit("artifact.downloaded", federation_id=blob.federation_id, **about)
    else:
        tx.audit(
            "checkpoint.downloaded",
            federation_id=blob.federation_id,
            checkpoint_id=str(checkpoint_id),
            **about,
        )


class Takings:
    """Who took which blob by ranges a moment ago, in this process: a download is one entry.

    A client that fetches many ranges at once, or goes on after a cut, would else fill the log.
    """

    def __init__(self) -> None:
        self._taken: OrderedDict[tuple[UUID, str], datetime] = OrderedDict()
        self._lock = threading.Lock()

    def is_entered(self, token_id: UUID, path: str, *, part: str | None, now: datetime) -> bool:
        """Return whether this request goes on with a download of `path` that has its entry.

        `part` is its Range; a request for the whole is a download of its own.
        """
        key = (token_id, path)
        with self._lock:
            last = self._taken.pop(key, None)
            self._taken[key] = last if part and last and now - last < ONE_TAKING else now
            while len(self._taken) > MOST_TAKINGS:
                self._taken.popitem(last=False)
            return self._taken[key] is last


def note_refused_login(tx: Tx, *, now: datetime) -> None:
    """Enter that somebody was not let in; the first 100 a minute."""
    recent = rows.count_newest(
        tx.session, None, action=REFUSED, since=now - REFUSALS_WITHIN, among=NEWEST
    )
    if recent < REFUSALS:
        tx.audit(REFUSED, federation_id=None)
    elif tx.actor is not None:
        log.warning("login_refused", name=tx.actor.name, address=tx.actor.address)
