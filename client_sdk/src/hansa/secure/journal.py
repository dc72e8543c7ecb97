"""What a site must not forget of secure runs, on disk before anything that follows from it is sent.

    secure/<run id>/keys-<version>.json      own exchange key and nonce for a version of the roster
    secure/<run id>/roster-<version>.json    a roster that this site confirmed
    secure/<run id>/round-<digest>.json      of one round: what was masked, signed, opened
    secure/<run id>/refused-<duty id>.json   what this site would not do, and why

Invariants, each of which a hub would like to see broken:
- every file is 0600, replaced whole, and flushed to disk when the method that wrote it returns;
  what is there already is written again, as a kill may have come between renaming and flushing;
- one roster for a version, one masked vector and one set of survivors for a round, for ever: asked
  the same again, the site answers the same, asked for another, it refuses;
- keys of a version are made once; versions never go back;
- an exchange key goes when its roster is two versions old, and with it all that it could open.
"""

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from hansa.errors import LocalError
from hansa.files import sync_folder, write_durably
from hansa_core.names import Digest
from hansa_core.secagg.errors import SecaggRefusedError
from hansa_core.secagg.messages import Header, Positions, SignedConfirmation
from hansa_core.secagg.plans import Terms
from hansa_core.secagg.site import OwnKeys
from hansa_core.signing import decode_base64, encode_base64

KEPT_VERSIONS = 2  # the roster in force and the one before
KEPT_DAYS = 180.0  # of a run that nothing was heard of: longer than any phase of a round may last
KEPT_REFUSALS = 100  # of one run
DAY = 86400.0  # seconds
MAX_ENTRY = 64 << 20  # bytes of one file; a roster of ten thousand sites takes a tenth

EntryT = TypeVar("EntryT", bound=BaseModel)


class _Entry(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class KeysEntry(_Entry):
    """Own keys for one version of a run's roster, and the terms that they were made for."""

    version: int
    exchange_private: str  # url-safe base64, as the nonce
    nonce: str
    terms: Terms

    @classmethod
    def of(cls, version: int, own: OwnKeys, terms: Terms) -> "KeysEntry":
        """Return the entry of these keys."""
        return cls(
            version=version,
            exchange_private=encode_base64(own.exchange_private),
            nonce=encode_base64(own.nonce),
            terms=terms,
        )

    @property
    def own(self) -> OwnKeys:
        """The keys."""
        return OwnKeys(decode_base64(self.exchange_private), decode_base64(self.nonce))

    def __repr__(self) -> str:
        return f"KeysEntry(version={self.version})"  # not the keys


class RosterEntry(_Entry):
    """A roster that this site confirmed."""

    version: int
    digest: Digest
    body: str  # canonical JSON
    confirmations: list[SignedConfirmation] | None = None  # all members', once that was seen


class Masked(_Entry):
    """The one masked update of a round."""

    task_id: UUID
    masked: Digest  # of the file of masked words
    seals: Digest  # of the file of seals


class RoundEntry(_Entry):
    """What this site did in one round."""

    header: Header
    used: Masked | None = None
    signed: Positions | None = None  # the survivors that this site put its name to
    opened: Positions | None = None  # the survivors whose sum it gave shares of


class RefusalEntry(_Entry):
    """What this site would not do."""

    kind: str
    reason: str


class SecureJournal:
    """The secure runs of one site. One process at a time; its threads may share it."""

    def __init__(self, state_dir: Path) -> None:
        self._root = state_dir / "secure"  # made with the first keys
        self._lock = threading.RLock()

    def knows(self, run_id: UUID) -> bool:
        """Return whether this site made keys for the run: it is a secure one, and stays one."""
        return any(self._folder(run_id).glob("keys-*.json"))

    @property
    def is_empty(self) -> bool:
        """Whether this site never took part in a secure run, or long ago."""
        return not any(self._root.glob("*/keys-*.json"))

    # Keys and rosters

    def keys(self, run_id: UUID, version: int) -> KeysEntry | None:
        """Return the site's keys for a version; None before they were made, or once deleted."""
        return _read(self._keys_path(run_id, version), KeysEntry)

    def store_keys(self, run_id: UUID, entry: KeysEntry) -> None:
        """Keep new keys for a version that is newer than all before. Raises SecaggRefusedError."""
        with self._lock:
            newest = max(self._versions(run_id), default=0)
            if entry.version <= newest:
                raise SecaggRefusedError(
                    f"keys for version {entry.version} of the roster are asked for, and this site "
                    f"has seen version {newest}: wanted a newer one"
                )
            self._write(self._keys_path(run_id, entry.version), entry)

    def roster(self, run_id: UUID, digest: str) -> RosterEntry | None:
        """Return a roster that this site confirmed; None if it did not, or deleted the keys."""
        for path in self._folder(run_id).glob("roster-*.json"):
            entry = _read(path, RosterEntry)
            if entry is not None and entry.digest == digest:
                return entry
        return None

    def confirm(self, run_id: UUID, entry: RosterEntry) -> None:
        """Keep that the site confirms this roster, and no other of its version or an older one.

        Raises SecaggRefusedError.
        """
        with self._lock:
            path = self._roster_path(run_id, entry.version)
            before = _read(path, RosterEntry)
            if before is not None and before.digest != entry.digest:
                raise SecaggRefusedError(
                    f"this site confirmed roster {before.digest} as version {entry.version}, and "
                    f"is now shown {entry.digest} as the same version"
                )
            newer = [
                it for it in self._versions(run_id, prefixes=("roster",)) if it > entry.version
            ]
            if newer and before is None:
                raise SecaggRefusedError(
                    f"version {entry.version} of the roster is older than version {max(newer)}, "
                    "which this site has confirmed"
                )
            self._write(path, before or entry)

    def in_force(self, run_id: UUID, entry: RosterEntry) -> None:
        """Keep that all members confirmed a roster; forget those that are two versions older."""
        with self._lock:
            for version in sorted(self._versions(run_id)):
                if version <= entry.version - KEPT_VERSIONS:
                    self._retire(run_id, version)
            self._write(self._roster_path(run_id, entry.version), entry)

    # Rounds

    def round(self, header: Header) -> RoundEntry:
        """Return what this site did in a round; an empty entry if nothing."""
        return _read(self._round_path(header), RoundEntry) or RoundEntry(header=header)

    def use(self, header: Header, masked: Masked) -> None:
        """Keep which update is masked for a round. Raises SecaggRefusedError for a second one."""
        with self._lock:
            entry = self.round(header)
            if entry.used != masked:
                require_unused(entry)
                self._require_one_header(header)
            self._write(self._round_path(header), entry.model_copy(update={"used": masked}))

    def sign(self, header: Header, survivors: Positions) -> None:
        """Keep which survivors the site signs for a round. Raises SecaggRefusedError for others."""
        with self._lock:
            entry = self.round(header)
            _require_same(header, entry.signed, survivors, "signed")
            _require_same(header, entry.opened, survivors, "opened the sum of")
            self._require_one_header(header)
            self._write(self._round_path(header), entry.model_copy(update={"signed": survivors}))

    def open(self, header: Header, survivors: Positions) -> None:
        """Keep of which survivors the site opens the sum. Raises SecaggRefusedError for others."""
        with self._lock:
            entry = self.round(header)
            _require_same(header, entry.opened, survivors, "opened the sum of")
            _require_same(header, entry.signed, survivors, "signed")
            self._require_one_header(header)
            self._write(self._round_path(header), entry.model_copy(update={"opened": survivors}))

    # Refusals

    def refusal(self, run_id: UUID, duty_id: UUID) -> str | None:
        """Return why a duty was refused; None: it was not."""
        entry = _read(self._refusal_path(run_id, duty_id), RefusalEntry)
        return None if entry is None else entry.reason

    def refuse(self, run_id: UUID, duty_id: UUID, entry: RefusalEntry) -> None:
        """Keep that a duty is refused."""
        with self._lock:
            self._write(self._refusal_path(run_id, duty_id), entry)
            kept = sorted(
                self._folder(run_id).glob("refused-*.json"), key=lambda path: path.stat().st_mtime
            )
            for path in kept[:-KEPT_REFUSALS]:
                path.unlink()

    # Keeping house

    def trim(self) -> None:
        """Forget the runs that nothing was heard of for long, and what a kill left half written."""
        with self._lock:
            if not self._root.is_dir():
                return
            oldest = time.time() - KEPT_DAYS * DAY
            for folder in self._root.iterdir():
                _unlink(folder.glob("*.tmp"), folder)
                if max((it.stat().st_mtime for it in folder.iterdir()), default=0.0) < oldest:
                    _unlink(folder.glob("keys-*.json"), folder)
                    shutil.rmtree(folder, ignore_errors=True)

    def _retire(self, run_id: UUID, version: int) -> None:
        """Delete a version's keys, and then what is of no use without them."""
        folder = self._folder(run_id)
        _unlink([self._keys_path(run_id, version)], folder)
        path = self._roster_path(run_id, version)
        roster = _read(path, RosterEntry)
        if roster is None:
            return
        rounds = [
            it
            for it in folder.glob("round-*.json")
            if (entry := _read(it, RoundEntry)) is not None and entry.header.roster == roster.digest
        ]
        _unlink([*rounds, path], folder)

    def _require_one_header(self, header: Header) -> None:
        """Raise SecaggRefusedError if this site did something for another header of the round."""
        digest = header.digest()
        for path in self._folder(header.run_id).glob("round-*.json"):
            other = _read(path, RoundEntry)
            if other is None or other.header.digest() == digest:
                continue
            theirs = other.header
            if (theirs.round_id, theirs.retry) == (header.round_id, header.retry):
                raise SecaggRefusedError(
                    f"round {header.round_number} has the header {digest}, and this site has "
                    f"worked for {theirs.digest()} as the same round: a round is never held again "
                    "with another"
                )

    def _versions(
        self, run_id: UUID, *, prefixes: tuple[str, ...] = ("keys", "roster")
    ) -> set[int]:
        return {
            int(path.stem.removeprefix(f"{prefix}-"))
            for prefix in prefixes
            for path in self._folder(run_id).glob(f"{prefix}-*.json")
        }

    def _write(self, path: Path, entry: _Entry) -> None:
        for folder in (self._root, path.parent):
            if not folder.is_dir():
                folder.mkdir(mode=0o700)
                sync_folder(folder.parent)
        write_durably(path, entry.model_dump_json().encode() + b"\n", mode=0o600)

    def _folder(self, run_id: UUID) -> Path:
        return self._root / str(run_id)

    def _keys_path(self, run_id: UUID, version: int) -> Path:
        return self._folder(run_id) / f"keys-{version}.json"

    def _roster_path(self, run_id: UUID, version: int) -> Path:
        return self._folder(run_id) / f"roster-{version}.json"

    def _round_path(self, header: Header) -> Path:
        return self._folder(header.run_id) / f"round-{header.digest()}.json"

    def _refusal_path(self, run_id: UUID, duty_id: UUID) -> Path:
        return self._folder(run_id) / f"refused-{duty_id}.json"


def require_unused(entry: RoundEntry) -> None:
    """Raise SecaggRefusedError if the site has masked an update of it, or signed its sum."""
    if entry.used is not None:
        raise SecaggRefusedError(
            f"this site has masked its update of round {entry.header.round_number} already "
            f"(words {entry.used.masked}), and those files are gone: another update under the same "
            "masks would tell the difference, so this round goes on without the site"
        )
    if entry.signed is not None or entry.opened is not None:
        raise SecaggRefusedError(
            f"this site has signed the survivors of round {entry.header.round_number}: an update "
            "that comes after that is not sent"
        )


def _require_same(header: Header, before: Positions | None, now: Positions, what: str) -> None:
    if before is not None and before != now:
        raise SecaggRefusedError(
            f"this site has {what} {len(before)} survivors of round {header.round_number}, and is "
            f"now shown another set of {len(now)}: one set a round, for ever"
        )


def _read(path: Path, kind: type[EntryT]) -> EntryT | None:
    """Return an entry; None if there is none. Raises LocalError: it is damaged."""
    try:
        with path.open("rb") as file:
            return kind.model_validate_json(file.read(MAX_ENTRY))
    except FileNotFoundError:
        return None
    except ValidationError as error:
        raise LocalError(
            f"{path} is damaged: {error.errors(include_url=False)[0]['msg']}",
            hint="restore it from a backup; without it the site sits out the run's rounds",
        ) from error


def _unlink(paths: Iterator[Path] | list[Path], folder: Path) -> None:
    gone = False
    for path in paths:
        gone = path.exists() or gone
        path.unlink(missing_ok=True)
    if gone:
        sync_folder(folder)
