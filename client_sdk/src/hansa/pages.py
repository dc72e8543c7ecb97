"""Listings: an iterator that fetches the hub's pages as it is consumed."""

from collections.abc import Iterator
from typing import TypeVar

from pydantic import BaseModel

from hansa.transport import Params, Transport
from hansa_core import wire

PAGE = 200  # items per request of a listing

ItemT = TypeVar("ItemT", bound=BaseModel)


def pages(
    transport: Transport, path: str, item: type[ItemT], params: Params | None = None
) -> Iterator[ItemT]:
    """Yield the items of the listing at `path`; `params` may set its limit. Raises HansaError."""
    cursor: str | None = None
    page_type = wire.Page[item]
    while True:
        sent: Params = {"limit": PAGE, **(params or {}), "cursor": cursor}
        page = transport.call("GET", path, page_type, params=sent)
        yield from page.items
        cursor = page.next_cursor
        if cursor is None:
            return
