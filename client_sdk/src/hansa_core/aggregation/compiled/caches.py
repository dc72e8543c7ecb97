"""Where compiled loops are kept from one process to the next.

numba's cache holds pickles, so it must lie where nobody else can write: a folder of this user's
own, mode 0700, never one beside the package, which may be read-only or shared. Without such a
folder nothing is kept and every process compiles for itself.

Invariants
- The folder's name holds a digest of these sources, so that no process runs another version's
  loops. numba itself keeps CPUs, its own versions and Python's apart.
- Processes that start at once may all compile; each file appears whole, by a rename, and holds the
  same function whoever wrote it, for every loop has one signature.
"""

import hashlib
import os
import stat
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

FOLDER = "HANSA_COMPILED_DIR"  # an operator's choice of folder


def cache_folder() -> Path | None:
    """Return a folder that only this user can write to, made if need be, or None."""
    try:
        folder = _parent() / f"loops-{_version()}"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        seen = folder.lstat()
    except (OSError, RuntimeError):  # RuntimeError: a user without a home
        return None
    private = stat.S_ISDIR(seen.st_mode) and not seen.st_mode & 0o077
    owned = not hasattr(os, "geteuid") or seen.st_uid == os.geteuid()
    return folder if private and owned and os.access(folder, os.W_OK | os.X_OK) else None


@contextmanager
def one_at_a_time() -> Generator[None]:
    """Let one process after the other work with the folder, where there are such locks."""
    folder = cache_folder()
    if folder is None or fcntl is None:
        yield
        return
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # gone with the file, or the process
        yield


def _parent() -> Path:
    chosen = os.environ.get(FOLDER)
    if chosen:
        return Path(chosen).absolute()
    caches = os.environ.get("XDG_CACHE_HOME")
    return (Path(caches) if caches else Path.home() / ".cache") / "hansa"


def _version() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]
