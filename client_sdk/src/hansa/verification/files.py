"""Files named by their SHA-256, hashed before they are used, each one once while it is here."""

from collections.abc import Set as AbstractSet
from pathlib import Path

from hansa.transfers import digest_file
from hansa.verification.bundles import Blobs, DamagedError, UnavailableError
from hansa.verification.reports import Check, Ledger


class Files:
    """A verification's files."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs
        self._known: dict[str, Path | None] = {}  # None: asked for in vain

    def checked(self, ledger: Ledger, subject: str, digest: str, size: int) -> Path | None:
        """Return the file if its bytes are the right ones; else note why not, and return None."""
        if digest in self._known:
            return self._known[digest]
        path: Path | None = None
        try:
            path = self._blobs.fetch(digest, size)
        except UnavailableError as error:
            ledger.skip(Check.FILE, subject, f"{digest} is not there: {error}")
        except DamagedError as error:
            ledger.fail(Check.FILE, subject, str(error))
        else:
            found, length = digest_file(path)
            same = found == digest and length == size
            wrong = f"the file has {length} bytes with SHA-256 {found}, wanted {size} with {digest}"
            if not ledger.settle(Check.FILE, subject, None if same else wrong):
                path = None
        self._known[digest] = path
        return path

    def release(self, keep: AbstractSet[str]) -> None:
        """Forget all but `keep`: the next round does not need them."""
        self._known = {digest: path for digest, path in self._known.items() if digest in keep}
        self._blobs.release(keep)
