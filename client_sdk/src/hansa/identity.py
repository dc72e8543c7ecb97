"""Who a site is: its state folder, its private key and the record of its enrolment.

    site.key       Ed25519 private key, url-safe base64, mode 0600
    site.key.next  the key of a rotation that was not confirmed yet
    site.json      the enrolment: hub, site, federation; written after the hub agreed
    lock           held by the one process that works in the folder
    tasks/ checkpoints/ slots/   the journal's (journal.py)
    memory/        what is remembered between rounds (memory.py)
    secure/        keys and promises of secure runs (secure/journal.py)
    peers.json     other sites' fingerprints (secure/peers.py)

Invariants: the folder is 0700 and ours alone; the key exists on disk before the hub hears of it
and never leaves it; every file here is replaced whole and flushed to disk.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from hansa.errors import LocalError
from hansa.files import sync_folder, write_durably
from hansa_core import signing
from hansa_core.problems import CoreError

STATE_DIR_VARIABLE = "HANSA_SITE_DIR"
MAX_RECORD = 1 << 20  # bytes


class SiteRecord(BaseModel):
    """What the hub called this site when it enrolled."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    hub_url: str
    site_id: UUID
    site_name: str
    federation_id: UUID
    federation_slug: str
    fingerprint: str  # of the public key, as the operator of the federation compares it


@dataclass(frozen=True, slots=True)
class Identity:
    """An enrolled site with its key."""

    record: SiteRecord
    private_key: bytes

    def __repr__(self) -> str:
        return f"Identity({self.record!r})"  # not the key


def default_state_dir() -> Path:
    """Return HANSA_SITE_DIR, else ~/.hansa/site."""
    return Path(os.environ.get(STATE_DIR_VARIABLE) or Path.home() / ".hansa" / "site")


@dataclass(frozen=True, slots=True)
class StateDir:
    """A site's folder. Make one with `open_state_dir`."""

    path: Path

    @property
    def key_path(self) -> Path:
        """Where the private key is."""
        return self.path / "site.key"

    @property
    def next_key_path(self) -> Path:
        """Where the key of an unconfirmed rotation is."""
        return self.path / "site.key.next"

    @property
    def record_path(self) -> Path:
        """Where the enrolment is."""
        return self.path / "site.json"

    def record(self) -> SiteRecord | None:
        """Return the enrolment; None before there is one.

        Raises:
            LocalError: the file is damaged.
        """
        try:
            return SiteRecord.model_validate_json(_read(self.record_path))
        except FileNotFoundError:
            return None
        except ValidationError as error:
            raise LocalError(
                f"{self.record_path} is damaged: {error.errors(include_url=False)[0]['msg']}",
                hint="restore it from a backup, or enroll anew with another --state-dir",
            ) from error

    def identity(self) -> Identity:
        """Return who this site is.

        Raises:
            LocalError: it never enrolled, or its key is missing or damaged.
        """
        record = self.record()
        if record is None:
            raise LocalError(
                f"{self.path} holds no enrolled site",
                hint="run `hansa site enroll URL INVITATION --name NAME` first, "
                "or name the folder with --state-dir",
            )
        return Identity(record, read_key(self.key_path))

    def ensure_key(self) -> bytes:
        """Return the site's private key, made and stored now if there is none."""
        if not self.key_path.exists():
            store_key(self.key_path, signing.generate_private_key())
        return read_key(self.key_path)

    def save(self, record: SiteRecord) -> None:
        """Store the enrolment.

        Raises:
            LocalError: the folder belongs to another site or hub.
        """
        known = self.record()
        if known is not None and (known.site_id, known.hub_url) != (record.site_id, record.hub_url):
            raise LocalError(belongs_to(self.path, known))
        write_durably(self.record_path, record.model_dump_json(indent=2).encode() + b"\n")

    def adopt_next_key(self) -> None:
        """Make the key of a rotation, which the hub has accepted, the site's key."""
        self.next_key_path.replace(self.key_path)
        sync_folder(self.path)

    @contextmanager
    def locked(self) -> Generator[None]:
        """Hold the folder's lock.

        Raises:
            LocalError: another process holds it.
        """
        handle = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                holder = os.pread(handle, 32, 0).decode(errors="replace").strip() or "unknown"
                raise LocalError(
                    f"{self.path} is in use by another hansa process (pid {holder})",
                    hint="one process per site: stop that one, "
                    "or give this one its own --state-dir and enrolment",
                ) from None
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(handle)  # gives the lock back


def open_state_dir(path: Path, *, create: bool = False) -> StateDir:
    """Return the state folder `path`, with the permissions it should have.

    Raises:
        LocalError: there is none and `create` is false, or what is there is something else.
    """
    state = StateDir(path.expanduser().absolute())
    path = state.path
    try:
        if not path.exists():
            if not create:
                raise LocalError(
                    f"{path} does not exist: no site is enrolled there",
                    hint="run `hansa site enroll URL INVITATION --name NAME` first, "
                    "or name the folder with --state-dir",
                )
            path.mkdir(mode=0o700, parents=True)
        elif not path.is_dir():
            raise LocalError(f"{path} is a file, wanted a folder for the site's state")
        elif _is_foreign(state):
            raise LocalError(
                f"{path} holds other things and no site",
                hint="name a new or empty folder with --state-dir",
            )
        path.chmod(0o700)
    except OSError as error:
        raise LocalError(f"cannot use {path} as the site's folder: {error.strerror}") from error
    return state


def belongs_to(path: Path, record: SiteRecord) -> str:
    """Return the sentence that says whose folder `path` is."""
    return (
        f"{path} belongs to the site {record.site_name!r} of federation "
        f"{record.federation_slug!r} at {record.hub_url}"
    )


def store_key(path: Path, private_key: bytes) -> None:
    """Write a private key, mode 0600, flushed to disk."""
    write_durably(path, signing.encode_base64(private_key).encode() + b"\n", mode=0o600)


def read_key(path: Path) -> bytes:
    """Return the private key in `path`.

    Raises:
        LocalError: it is missing or damaged.
    """
    try:
        text = _read(path).decode("ascii").strip()
        private_key = signing.decode_base64(text, size=signing.KEY_SIZE)
        signing.public_key(private_key)
    except FileNotFoundError:
        raise LocalError(
            f"the site's key {path} is missing",
            hint="restore it from a backup, or enroll anew with another --state-dir",
        ) from None
    except (CoreError, UnicodeDecodeError) as error:
        raise LocalError(f"the site's key {path} is damaged: {error}") from error
    if path.stat().st_mode & 0o077:
        path.chmod(0o600)
    return private_key


def _is_foreign(state: StateDir) -> bool:
    names = {entry.name for entry in state.path.iterdir()}
    return bool(names - {"lock"}) and not names & {state.record_path.name, state.key_path.name}


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(MAX_RECORD)
