"""The audit log as it comes from a hub: its listing, its head, the exported stream.

An export that is cut goes on after the last entry that came; its check is hansa_core.audit's.
"""

from collections.abc import Iterator
from datetime import datetime
from urllib.parse import quote

from hansa.errors import BadAnswerError, RetryableError
from hansa.pages import pages
from hansa.transport import Params, Transport
from hansa_core import wire
from hansa_core.audit import MAX_LINE, Sealed, read_entry, read_line


class AuditLog:
    """One chain of a hub: a federation's, or with None the hub's own. Methods raise HansaError."""

    def __init__(self, transport: Transport, federation: str | None) -> None:
        within = "" if federation is None else f"/federations/{quote(federation, safe='')}"
        self._path = f"/v1{within}/audit"
        self._transport = transport

    def entries(
        self,
        *,
        actor: str | None = None,
        action: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> Iterator[wire.AuditEntry]:
        """Yield who did what, from where, newest first.

        `actor` is a person's email or a site's name; `action` is how the action starts, "site.";
        `until` is exclusive.
        """
        wanted: Params = {
            "actor": actor,
            "action": action,
            "since": since.isoformat() if since else None,
            "until": until.isoformat() if until else None,
        }
        return pages(self._transport, self._path, wire.AuditEntry, wanted)

    def head(self) -> wire.AuditHead:
        """Return the newest entry's number and digest."""
        return self._transport.call("GET", f"{self._path}/head", wire.AuditHead)

    def export(self, *, after: int = 0) -> Iterator[Sealed]:
        """Yield the entries with a number above `after` as they are chained, oldest first."""
        attempt = 0
        while True:
            came = after
            try:
                for sealed in _export_once(self._transport, f"{self._path}/export", after):
                    after = _number(sealed, after)
                    yield sealed
            except RetryableError as error:
                attempt = 1 if after > came else attempt + 1
                self._transport.pause(attempt, error)
            else:
                return


def _export_once(transport: Transport, path: str, after: int) -> Iterator[Sealed]:
    what = f"GET {transport.url}{path}"
    headers = {"Accept": "application/x-ndjson"}
    with transport.exchange("GET", path, params={"after": after}, headers=headers) as response:
        for line in _lines(response.iter_bytes(), what):
            try:
                sealed = read_line(line)
            except ValueError as error:
                raise BadAnswerError(f"{what}: {error}") from error
            yield sealed


def _lines(chunks: Iterator[bytes], what: str) -> Iterator[bytes]:
    """Yield what ends with a line feed; a rest without one raises RetryableError."""
    rest = b""
    for chunk in chunks:
        *lines, rest = (rest + chunk).split(b"\n")
        yield from lines
        if len(rest) > MAX_LINE:
            raise BadAnswerError(f"{what}: a line of more than {MAX_LINE} bytes")
    if rest:
        raise RetryableError(f"{what} ended within a line")


def _number(sealed: Sealed, before: int) -> int:
    """Return the entry's number; of one that says nothing we know, the next one's."""
    try:
        return read_entry(sealed.body).number
    except ValueError:
        return before + 1
