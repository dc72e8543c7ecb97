"""What the stack keeps in its data directory beside the databases: lock, state, secrets.

Invariants: the lock is a kernel lock, so a dead holder never blocks anyone; secrets and the
state file are mode 0600 and are replaced whole, never written in place.
"""

import fcntl
import json
import os
import secrets
import stat
import tempfile
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from app.embedded.errors import EXIT_ALREADY_RUNNING, StackError
from app.embedded.processes import Account

SOCKET_PATH_BYTES = 107  # sun_path less its final zero byte, unix(7)
_LOCK_BYTES = 4096


def write_private(path: Path, content: str) -> None:
    """Replace a file in one step; only its owner may read it."""
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    with os.fdopen(descriptor, "w") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    Path(name).replace(path)


def secret(path: Path, *, size: int = 18) -> str:
    """Return the secret stored in a file; if there is none, make one of `size` random bytes.

    It is url-safe base64 without padding.
    """
    if not path.exists():
        write_private(path, secrets.token_urlsafe(size) + "\n")
    return path.read_text().strip()


def read_state(path: Path) -> Mapping[str, object]:
    """Return what a stack.json says.

    Raises:
        StackError: no such file, or not a JSON object.
    """
    try:
        value = json.loads(path.read_text())
    except FileNotFoundError as error:
        raise StackError(f"{path} does not exist; start the stack with: hansa-hub up") from error
    except ValueError as error:
        raise StackError(f"{path} is not JSON ({error}); restart the stack") from error
    if not isinstance(value, dict):
        raise StackError(f"{path} holds a {type(value).__name__}, wanted an object")
    return value  # pyright: ignore[reportUnknownVariableType] -- JSON object keys are text


@contextmanager
def locked(path: Path) -> Generator[Callable[[str], None]]:
    """Hold the data directory's lock; yields a function that records our address in it.

    Raises:
        StackError: another process holds it; exit code 3.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, _LOCK_BYTES, 0).decode(errors="replace").strip()
            raise StackError(
                f"already running as {holder or 'another process'} (data in {path.parent})",
                exit_code=EXIT_ALREADY_RUNNING,
            ) from error

        def record(address: str) -> None:
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"pid {os.getpid()} at {address}\n".encode(), 0)

        record("an address not chosen yet")
        yield record
    finally:
        os.close(descriptor)


def short_path_digest(path: Path) -> str:
    """Return 12 hex characters that stand for an absolute path."""
    return sha256(os.fsencode(path.absolute())).hexdigest()[:12]


def socket_directory(preferred: Path, socket_name: str, account: Account | None = None) -> Path:
    """Return a folder of mode 0700 in which a socket of that name fits the kernel's limit.

    That is `preferred` when short enough, else one under /tmp that depends on `preferred`
    alone, so that restarts and other processes find it again. It belongs to `account`.

    Raises:
        StackError: somebody else owns the short one.
    """
    chosen = preferred.absolute()
    if len(os.fsencode(chosen / socket_name)) > SOCKET_PATH_BYTES:
        chosen = Path("/tmp") / f"hansa-{short_path_digest(preferred)}"  # noqa: S108 -- checked
    chosen.mkdir(mode=0o700, exist_ok=True)
    found = chosen.lstat()
    owners = {os.geteuid(), account.uid} if account else {os.geteuid()}
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & 0o077 or found.st_uid not in owners:
        raise StackError(
            f"{chosen} has mode {found.st_mode:o} and owner {found.st_uid}; wanted a folder of "
            f"mode 0700 owned by {min(owners)}: remove it or use a shorter --data-dir"
        )
    if account:
        os.chown(chosen, account.uid, account.gid)
    return chosen
