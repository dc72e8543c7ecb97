"""A run's receipts at a hub, and the files that they name."""

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote
from uuid import UUID

from hansa.pages import pages
from hansa.transfers import OnBytes, download_file
from hansa.transport import Transport
from hansa_core import wire

PER_PAGE = 10  # a receipt of a large cohort has megabytes


class ReceiptLog:
    """The receipts of one run. Every method raises HansaError."""

    def __init__(self, transport: Transport, federation: str, run_id: UUID) -> None:
        self._transport = transport
        self._federation = f"/v1/federations/{quote(federation, safe='')}"
        self._path = f"{self._federation}/runs/{run_id}/receipts"

    def __iter__(self) -> Iterator[wire.Receipt]:
        """Yield the receipts, the first one first."""
        return pages(self._transport, self._path, wire.Receipt, {"limit": PER_PAGE})

    def hold(self, digest: str, reason: str) -> wire.Receipt:
        """Keep what a receipt names from being deleted by any retention policy."""
        message = wire.HoldRequest(reason=reason)
        path = f"{self._path}/{digest}/hold"
        return self._transport.call("PUT", path, wire.Receipt, body=message)

    def release(self, digest: str) -> None:
        """Let the retention policy decide again."""
        self._transport.send("DELETE", f"{self._path}/{digest}/hold")

    def download(
        self, digest: str, target: Path, *, size: int, on_bytes: OnBytes | None = None
    ) -> None:
        """Store a file of `size` bytes that a receipt names at `target`. Raises OSError too."""
        path = f"{self._federation}/artifacts/{digest}"
        download_file(self._transport, path, target, digest=digest, size=size, on_bytes=on_bytes)
