"""Cursor pages: a cursor is the key of the last item shown, opaque to the client.

A service is asked for one item more than the page holds; that one tells whether there is a
next page.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from app.domain.errors import FieldProblem, InvalidRequestError
from hansa_core import wire
from hansa_core.problems import EncodingError
from hansa_core.signing import decode_base64, encode_base64

ItemT = TypeVar("ItemT")

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_CURSOR = 128  # characters

_LARGEST_NUMBER = 2**63 - 1  # what a bigint column holds


@dataclass(frozen=True, slots=True)
class PageRequest:
    """Which page is wanted."""

    cursor: str | None
    limit: int  # items on the page

    @property
    def fetch(self) -> int:
        """Return how many items to ask the service for."""
        return self.limit + 1

    def id(self) -> UUID | None:
        """Return the id that the page before ended with. Raises InvalidRequestError."""
        return None if self.cursor is None else decode_id(self.cursor)

    def number(self) -> int | None:
        """Return the number that the page before ended with. Raises InvalidRequestError."""
        return None if self.cursor is None else decode_number(self.cursor)


def page_of(
    items: Sequence[ItemT], limit: int, key: Callable[[ItemT], UUID | int]
) -> wire.Page[ItemT]:
    """Return the first `limit` of `items`, with a cursor if there are more."""
    shown = list(items[:limit])
    more = len(items) > limit
    return wire.Page[ItemT](
        items=shown, next_cursor=encode_cursor(key(shown[-1])) if more else None
    )


def encode_cursor(key: UUID | int) -> str:
    """Return the cursor of an item with this key."""
    return encode_base64(str(key).encode("ascii"))


def decode_id(cursor: str) -> UUID:
    """Return the id in a cursor. Raises InvalidRequestError."""
    try:
        return UUID(_decode(cursor))
    except ValueError as error:
        raise _bad_cursor(cursor) from error


def decode_number(cursor: str) -> int:
    """Return the number in a cursor, 0 to 2^63 - 1. Raises InvalidRequestError."""
    text = _decode(cursor)
    if not (text.isascii() and text.isdigit()) or int(text) > _LARGEST_NUMBER:
        raise _bad_cursor(cursor)
    return int(text)


def _decode(cursor: str) -> str:
    try:
        return decode_base64(cursor).decode("ascii")
    except (EncodingError, UnicodeDecodeError) as error:
        raise _bad_cursor(cursor) from error


def _bad_cursor(cursor: str) -> InvalidRequestError:
    message = f"not a cursor of this listing: {cursor[:40]!r}; take `next_cursor` of a page"
    return InvalidRequestError(message, fields=(FieldProblem("cursor", message),))
