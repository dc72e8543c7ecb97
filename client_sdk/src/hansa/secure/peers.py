"""Whose identity keys a site believes in, when a hub shows it the roster of a secure run.

    peers.json    the mode, pinned fingerprints, the consortium's key and its list; mode 0600
    peers.lock    held while peers.json is changed

Modes:
- first-use: a site that was never seen is pinned as it is seen, and told of loudly;
- pinned: only sites whose fingerprint the operator typed in;
- consortium: only sites on the membership list (memberships.py).

Invariants: a site whose key is another than the one that an operator pinned is refused in every
mode, and in the mode first-use one whose key has changed, until an operator says otherwise. What
was pinned at first sight counts in the mode first-use alone. This is the only defence against sites
that a hub makes up.
"""

import fcntl
import json
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from hansa.errors import LocalError
from hansa.files import write_durably
from hansa.secure.memberships import Fingerprint, Membership, read_membership
from hansa_core.names import Name
from hansa_core.secagg.errors import SecaggRefusedError
from hansa_core.secagg.messages import Key, Member
from hansa_core.signing import decode_base64, encode_base64, fingerprint

MAX_PEERS = 64 << 20  # bytes of peers.json

_NAME: TypeAdapter[str] = TypeAdapter(Name)
_FINGERPRINT: TypeAdapter[str] = TypeAdapter(Fingerprint)


class PeersMode(StrEnum):
    """How a site comes to trust another one's identity key."""

    FIRST_USE = "first-use"  # the first key seen by a name
    PINNED = "pinned"  # what the operator typed in
    CONSORTIUM = "consortium"  # what is on the consortium's signed list


class PinnedBy(StrEnum):
    """Who pinned a fingerprint."""

    FIRST_USE = "first-use"  # this site, when it first saw the name
    OPERATOR = "operator"  # somebody who compared it


class Pin(BaseModel):
    """A fingerprint that a peer has to have."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    fingerprint: Fingerprint
    by: PinnedBy
    since: datetime


class Book(BaseModel):
    """All of peers.json."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    mode: PeersMode = PeersMode.FIRST_USE
    pins: dict[Name, Pin] = Field(default_factory=dict[str, Pin])
    consortium_key: Key | None = None
    membership: Membership | None = None
    imported_at: datetime | None = None

    def doubt(self, member: Member) -> str | None:
        """Say why a member's identity key is not to be trusted; None: it is."""
        seen = fingerprint(decode_base64(member.identity_key))
        pin = self.pins.get(member.site_name)
        if pin is not None and pin.fingerprint != seen and self.counts(pin):
            return f"its key has the fingerprint {seen}, pinned is {pin.fingerprint}"
        match self.mode:
            case PeersMode.FIRST_USE:
                return None
            case PeersMode.PINNED:
                if pin is None or pin.by is not PinnedBy.OPERATOR:
                    return f"no operator has pinned its fingerprint, which is {seen}"
                return None
            case PeersMode.CONSORTIUM:
                return self._listed(member, seen)

    def counts(self, pin: Pin) -> bool:
        """Return whether a pin means anything in this mode: what somebody compared always does."""
        return pin.by is PinnedBy.OPERATOR or self.mode is PeersMode.FIRST_USE

    def _listed(self, member: Member, seen: str) -> str | None:
        if self.membership is None:
            return "this site has no membership list of the consortium yet"
        line = self.membership.line(member.site_name)
        serial = self.membership.serial
        if line is None:
            return f"it is not on the consortium's list {serial}; its fingerprint is {seen}"
        if line.fingerprint != seen:
            return f"its key is {seen}, on the consortium's list {serial} it is {line.fingerprint}"
        if line.site_id not in {None, member.site_id}:
            return f"its id is {member.site_id}, on the consortium's list {serial} {line.site_id}"
        return None


@dataclass(frozen=True, slots=True)
class Peer:
    """One line of what a site knows of others."""

    name: str
    fingerprint: str
    trusted: str  # how
    since: datetime | None


class Peers:
    """The peers of one site. The runner and commands may use them at the same time."""

    def __init__(
        self, state_dir: Path, *, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._path = state_dir / "peers.json"
        self._lock_path = state_dir / "peers.lock"
        self._clock = clock

    def book(self) -> Book:
        """Return what is known now. Raises LocalError: the file is damaged."""
        try:
            with self._path.open("rb") as file:
                return Book.model_validate_json(file.read(MAX_PEERS))
        except FileNotFoundError:
            return Book()
        except ValidationError as error:
            raise LocalError(
                f"{self._path} is damaged: {error.errors(include_url=False)[0]['msg']}",
                hint="correct it or restore it from a backup; without it the mode is first-use",
            ) from error

    def listed(self) -> list[Peer]:
        """Return whom this site trusts, or once pinned, by name."""
        book = self.book()
        found = {
            name: Peer(name, pin.fingerprint, _how(book, pin), pin.since)
            for name, pin in book.pins.items()
        }
        if book.membership is not None and book.mode is PeersMode.CONSORTIUM:
            for line in book.membership.members:
                pin = book.pins.get(line.site_name)
                how = "consortium"
                if pin is not None and book.counts(pin) and pin.fingerprint != line.fingerprint:
                    how = f"refused: pinned is {pin.fingerprint}"
                since = book.imported_at
                found[line.site_name] = Peer(line.site_name, line.fingerprint, how, since)
        return [found[name] for name in sorted(found)]

    def remember(self, members: Sequence[Member]) -> list[Member]:
        """Pin, in the mode first-use, those never seen before; return them.

        Raises SecaggRefusedError: one of them is not to be trusted (any more); LocalError.
        """
        with self._changing() as book:
            for member in members:
                if (doubt := book.doubt(member)) is not None:
                    raise SecaggRefusedError(f"{member.site_name}: {doubt}")
            new = [it for it in members if it.site_name not in book.pins]
            if book.mode is not PeersMode.FIRST_USE or not new:
                return []
            pins = {it.site_name: self._pin(_fingerprint_of(it), PinnedBy.FIRST_USE) for it in new}
            self._store(book.model_copy(update={"pins": {**book.pins, **pins}}))
            return new

    def pin(self, name: str, wanted: str) -> None:
        """Pin a fingerprint that the operator compared, in place of whatever was pinned.

        Raises LocalError.
        """
        checked = checked_fingerprint(wanted)
        with self._changing() as book:
            pins = {**book.pins, checked_name(name): self._pin(checked, PinnedBy.OPERATOR)}
            self._store(book.model_copy(update={"pins": pins}))

    def unpin(self, name: str) -> None:
        """Forget a peer's fingerprint. Raises LocalError if there is none."""
        with self._changing() as book:
            if name not in book.pins:
                known = ", ".join(sorted(book.pins)) or "nobody"
                raise LocalError(f"there is no pinned peer {name!r}; pinned are: {known}")
            pins = {other: pin for other, pin in book.pins.items() if other != name}
            self._store(book.model_copy(update={"pins": pins}))

    def set_mode(self, mode: PeersMode) -> None:
        """Choose how peers come to be trusted. Raises LocalError."""
        with self._changing() as book:
            if mode is PeersMode.CONSORTIUM and book.membership is None:
                raise LocalError(
                    "the mode consortium needs the consortium's key and its membership list",
                    hint="hansa site peers consortium KEY, then hansa site peers import FILE",
                )
            self._store(book.model_copy(update={"mode": mode}))

    def set_consortium(self, key: str) -> str:
        """Name the consortium's public key and return its fingerprint.

        The list that another key signed is dropped. Raises LocalError, EncodingError.
        """
        public = decode_base64(key, size=32)
        with self._changing() as book:
            changes: dict[str, object] = {"consortium_key": encode_base64(public)}
            if book.consortium_key != key:
                changes |= {"membership": None, "imported_at": None}
            self._store(book.model_copy(update=changes))
        return fingerprint(public)

    def import_list(self, content: bytes, *, federation_id: UUID) -> Membership:
        """Take over a membership list that the consortium's key signed. Raises LocalError."""
        with self._changing() as book:
            if book.consortium_key is None:
                raise LocalError(
                    "the consortium's key is not known here",
                    hint="hansa site peers consortium KEY, with the key its admin told you",
                )
            key = decode_base64(book.consortium_key)
            new = read_membership(content, key).membership
            if new.federation_id != federation_id:
                raise LocalError(
                    f"the membership list is of federation {new.federation_id}, "
                    f"this site is one of {federation_id}"
                )
            old = book.membership
            if old is not None and (
                new.serial < old.serial or (new.serial == old.serial and new != old)
            ):
                raise LocalError(
                    f"the membership list has the serial number {new.serial}, "
                    f"wanted one above {old.serial}, that of the list in force"
                )
            if new != old:
                changes = {"membership": new, "imported_at": self._clock()}
                self._store(book.model_copy(update=changes))
            return new

    def _pin(self, wanted: str, by: PinnedBy) -> Pin:
        return Pin(fingerprint=wanted, by=by, since=self._clock())

    @contextmanager
    def _changing(self) -> Generator[Book]:
        handle = os.open(self._lock_path, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield self.book()
        finally:
            os.close(handle)  # gives the lock back

    def _store(self, book: Book) -> None:
        content = json.dumps(book.model_dump(mode="json"), indent=2, sort_keys=True)
        write_durably(self._path, content.encode() + b"\n", mode=0o600)


def checked_fingerprint(text: str) -> str:
    """Return a fingerprint as it is written here. Raises LocalError: it is none."""
    try:
        return _FINGERPRINT.validate_python(text.strip().lower())
    except ValidationError as error:
        raise LocalError(
            f"{text!r} is no fingerprint: wanted eight groups of four letters or digits from 2 to "
            "7, with dashes",
            hint="the site's operator reads it from `hansa site status`",
        ) from error


def checked_name(text: str) -> str:
    """Return a site's name. Raises LocalError: it is none."""
    try:
        return _NAME.validate_python(text)
    except ValidationError as error:
        raise LocalError(f"{text!r} is no site's name") from error


def _how(book: Book, pin: Pin) -> str:
    if book.mode is PeersMode.PINNED and pin.by is PinnedBy.FIRST_USE:
        return "refused: seen, never pinned by an operator"
    if book.mode is PeersMode.CONSORTIUM:
        return "refused: not on the consortium's list"
    return pin.by


def _fingerprint_of(member: Member) -> str:
    return fingerprint(decode_base64(member.identity_key))
