"""The audit log's format: who did what, from where, as a chain that anybody can check offline.

An entry is canonical JSON, exactly these bytes, and is stored beside their SHA-256:

    {"action", "actor": {"address", "id", "kind", "name", "token_id"}, "at", "data",
     "federation_id", "number", "previous", "version": 1}

`number` counts from 1 without gaps and `previous` is the digest of the entry before (null in the
first one), so the digest of the newest entry, the head, stands for all of them: whoever kept a
head elsewhere notices every later change of what came before it. A federation has a chain of its
own; the one without a federation is the hub's. An export has an entry a line, oldest first:

    {"body": the entry's bytes as text, "digest": their SHA-256}
"""

import hashlib
import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, Self, cast
from uuid import UUID

from pydantic import AwareDatetime, JsonValue, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked_dataclass

from hansa_core.canonical import canonical_json
from hansa_core.problems import BrokenChainError, CanonicalizationError, ChainFault

VERSION = 1
MAX_LINE = 16 << 20  # bytes of an exported entry

_HEAD = re.compile(r"([1-9][0-9]{0,18}):([0-9a-f]{64})")


class ActorKind(StrEnum):
    """What acted."""

    PERSON = "person"
    SITE = "site"
    HUB = "hub"  # the hub's own command line, or the hub by itself


@dataclass(frozen=True, slots=True)
class Actor:
    """Who acts, and from where."""

    kind: ActorKind
    name: str  # a person's email, a site's name, or "hub"
    id: UUID | None = None  # None: the hub, or somebody who was not let in yet
    address: str | None = None  # of the client, as the hub saw it
    token_id: UUID | None = None  # the person's token in use


@checked_dataclass(frozen=True, slots=True)
class Entry:
    """What an entry says."""

    federation_id: UUID | None  # None: the hub's own chain
    number: int
    at: AwareDatetime
    actor: Actor
    action: str  # past tense, dotted: "site.approved"
    data: dict[str, JsonValue]
    previous: str | None  # digest of the entry before


@dataclass(frozen=True, slots=True)
class Sealed:
    """An entry as it is stored and exported."""

    body: str  # canonical JSON
    digest: str  # SHA-256 of `body`, lower-case hex


@dataclass(frozen=True, slots=True)
class Head:
    """One entry's place and digest; it stands for the chain up to there."""

    number: int
    digest: str

    def __str__(self) -> str:
        return f"{self.number}:{self.digest}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the head that was printed as NUMBER:DIGEST. Raises ValueError."""
        match = _HEAD.fullmatch(text)
        if match is None:
            raise ValueError(f"{text[:100]!r} is no head, wanted NUMBER:SHA-256")
        return cls(int(match[1]), match[2])


@dataclass(frozen=True, slots=True)
class Chain:
    """A stretch of a chain that holds together."""

    federation_id: UUID | None
    first: int  # number of its first entry
    head: Head
    since: datetime  # of its first entry
    until: datetime  # of its last one


def seal(entry: Entry) -> Sealed:
    """Return the entry's exact bytes, as text, and their digest. Raises CanonicalizationError."""
    body = canonical_json(_plain(entry))
    return Sealed(body.decode(), hashlib.sha256(body).hexdigest())


def read_entry(body: str) -> Entry:
    """Return what `body` says. Raises ValueError unless it is exactly what `seal` writes."""
    try:
        found = _ENTRY.validate_json(body)
        exact = seal(found).body
    except (ValidationError, CanonicalizationError) as error:
        raise ValueError(f"is no audit entry of version {VERSION}: {_brief(error)}") from error
    if exact != body:
        raise ValueError(f"is not the canonical form of an audit entry of version {VERSION}")
    return found


def write_line(sealed: Sealed) -> bytes:
    """Return the entry as one line of an export."""
    return canonical_json({"body": sealed.body, "digest": sealed.digest}) + b"\n"


def read_line(line: bytes) -> Sealed:
    """Return the entry in one line of an export. Raises ValueError if the line is none."""
    try:
        found = cast("dict[str, Any]", json.loads(line))
        body, digest = found["body"], found["digest"]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ValueError(f"no exported entry: {line[:80]!r}") from error
    if not (isinstance(body, str) and isinstance(digest, str)):
        raise ValueError(f"no exported entry: {line[:80]!r}")  # noqa: TRY004 -- bytes, not types
    return Sealed(body, digest)


def verify_chain(entries: Iterable[Sealed], *, kept: Iterable[Head] = ()) -> Chain | None:
    """Check a whole chain, or the stretch right after a kept head; None when there are no entries.

    `kept` are heads that somebody noted before and trusts: each must still be where it was. One
    before the stretch is covered by the one that the stretch follows. One entry is in memory.

    Raises:
        BrokenChainError: with the number of the first wrong entry, and what is wrong with it.
    """
    known = _by_number(kept)
    first: Entry | None = None
    last: Entry | None = None
    digest: str | None = None
    for sealed in entries:
        number = last.number + 1 if last else 1
        entry = _opened(sealed, number, starts=None if first else known)
        if last is None:
            first, number = entry, entry.number
            digest = known.get(number - 1)
        elif entry.federation_id != last.federation_id:
            raise BrokenChainError(
                number,
                ChainFault.OTHER_CHAIN,
                f"belongs to {_chain_name(entry)}, the entries before to {_chain_name(last)}",
            )
        _check_place(entry, number, digest)
        digest, last = sealed.digest, entry
        if known.get(number, digest) != digest:
            raise BrokenChainError(
                number,
                ChainFault.REPLACED,
                f"has the digest {digest}, kept was {known[number]}: history was rewritten",
            )
    end = last.number if last else 0
    missing = min((number for number in known if number > end), default=None)
    if missing is not None:
        raise BrokenChainError(
            end + 1,
            ChainFault.TRUNCATED,
            f"is missing: the entries end at {end}, there once were {max(known)}",
        )
    if first is None or last is None or digest is None:
        return None
    return Chain(
        first.federation_id, first.number, Head(last.number, digest), since=first.at, until=last.at
    )


def _opened(sealed: Sealed, number: int, *, starts: dict[int, str] | None) -> Entry:
    """Return the entry expected as `number`; `starts` are the heads a first entry may follow."""
    found = hashlib.sha256(sealed.body.encode("utf-8", "surrogatepass")).hexdigest()
    if found != sealed.digest:
        raise BrokenChainError(
            number,
            ChainFault.CHANGED,
            f"was changed: its SHA-256 is {found}, noted is {sealed.digest[:80]}",
        )
    try:
        entry = read_entry(sealed.body)
    except ValueError as error:
        raise BrokenChainError(number, ChainFault.MALFORMED, str(error)) from error
    if starts is not None and entry.number - 1 in starts:
        number = entry.number
    if entry.number > number:
        raise BrokenChainError(
            number, ChainFault.GAP, f"is missing: the next one there is {entry.number}"
        )
    if entry.number < number:
        raise BrokenChainError(
            number, ChainFault.REORDERED, f"is missing: entry {entry.number} stands in its place"
        )
    return entry


def _by_number(kept: Iterable[Head]) -> dict[int, str]:
    known: dict[int, str] = {}
    for head in kept:
        if known.setdefault(head.number, head.digest) != head.digest:
            raise BrokenChainError(
                head.number,
                ChainFault.REPLACED,
                f"was kept with two digests, {known[head.number]} and {head.digest}",
            )
    return known


def _check_place(entry: Entry, number: int, digest: str | None) -> None:
    if entry.previous != digest:
        raise BrokenChainError(
            number,
            ChainFault.UNLINKED,
            f"follows an entry with the digest {entry.previous}, the one before it has {digest}",
        )


def _plain(entry: Entry) -> dict[str, object]:
    actor = entry.actor
    return {
        "version": VERSION,
        "federation_id": _text(entry.federation_id),
        "number": entry.number,
        "at": entry.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "actor": {
            "kind": actor.kind,
            "name": actor.name,
            "id": _text(actor.id),
            "address": actor.address,
            "token_id": _text(actor.token_id),
        },
        "action": entry.action,
        "data": entry.data,
        "previous": entry.previous,
    }


def _text(identifier: UUID | None) -> str | None:
    return None if identifier is None else str(identifier)


def _chain_name(entry: Entry) -> str:
    return f"federation {entry.federation_id}" if entry.federation_id else "the hub"


def _brief(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False)[0]
        return f"{'.'.join(map(str, problem['loc'])) or 'it'}: {problem['msg']}"
    return str(error)


_ENTRY = TypeAdapter(Entry)
