"""Fetching what a verification reads: the metadata at once, the files when they are asked for.

Interrupted, it goes on where it stopped: what is in the bundle is not fetched again, and a cut
download is continued.
"""

from collections.abc import Set as AbstractSet
from datetime import UTC, datetime
from pathlib import Path

from hansa.client import HansaClient
from hansa.errors import CorruptDownloadError, RefusedError
from hansa.receipts import ReceiptLog
from hansa.verification.bundles import (
    FORMAT,
    Bundle,
    BundleInfo,
    DamagedError,
    UnavailableError,
)
from hansa_core import wire
from hansa_core.problems import ReceiptError
from hansa_core.receipts import parse_body


def collect(client: HansaClient, federation: str, run: wire.Run, folder: Path) -> Bundle:
    """Return a bundle in `folder` with the run's receipts and manifests, without its files.

    Raises:
        LocalError: the folder is a bundle of another run.
        HansaError, OSError: as every call and every write.
    """
    bundle = Bundle(folder)
    bundle.create(
        BundleInfo(
            format=FORMAT,
            hub_url=client.url,
            federation=federation,
            run_id=run.id,
            run_name=run.name,
            run_state=run.state,
            collected_at=datetime.now(UTC),
        )
    )
    for receipt in client.receipts(federation, run.id):
        bundle.add_receipt(receipt)
        digest = _roster_of(receipt)
        if digest is not None and not bundle.has_roster(digest):
            bundle.add_roster(client.roster(digest))
    for update in client.updates(federation, run.id):
        bundle.add_update(update)
    return bundle


def _roster_of(receipt: wire.Receipt) -> str | None:
    """Return the roster that a receipt names; what is wrong with the receipt is told later."""
    try:
        account = parse_body(receipt.body.encode()).round
    except ReceiptError:
        return None
    return account.secure.roster if account is not None and account.secure is not None else None


class HubBlobs:
    """A hub's files, fetched into a bundle one by one; kept there, or dropped after use."""

    def __init__(self, receipts: ReceiptLog, bundle: Bundle, *, keep: bool) -> None:
        self._receipts = receipts
        self._bundle = bundle
        self._keep = keep
        self._fetched: set[str] = set()

    def fetch(self, digest: str, size: int) -> Path:
        """Return the file, downloaded now if the bundle lacks it.

        Raises:
            UnavailableError: the hub has it no more.
            DamagedError: the hub has other bytes in its place.
            HansaError: as every call.
        """
        path = self._bundle.blob_path(digest)
        if path.is_file():
            return path
        try:
            self._receipts.download(digest, path, size=size)
        except (RefusedError, CorruptDownloadError) as error:
            self._bundle.note_missing(digest, str(error))
            if isinstance(error, CorruptDownloadError):
                raise DamagedError(str(error)) from error
            raise UnavailableError(f"the hub says: {error}") from error
        self._fetched.add(digest)
        return path

    def release(self, keep: AbstractSet[str]) -> None:
        """Drop the files that are not needed again, unless the bundle is to keep them."""
        if self._keep:
            return
        for digest in self._fetched - keep:
            self._bundle.blob_path(digest).unlink(missing_ok=True)
        self._fetched &= keep
