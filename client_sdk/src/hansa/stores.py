"""Requests to signed addresses of a hub's store. No token of ours ever goes there.

Invariants: an address is used only where it is as protected as the hub's own (no http beside
https); whatever comes back is checked by its SHA-256 as if a stranger had sent it.
"""

from collections.abc import Generator, Mapping
from contextlib import contextmanager
from http import HTTPStatus

from hansa.bulk import BulkClient, BulkResponse, Pieces
from hansa.errors import BadAnswerError, HansaError, RefusedError, RetryableError
from hansa_core.wire import Problem

MAX_REASON = 1 << 20  # bytes of an error answer that are read


@contextmanager
def at_store(
    client: BulkClient,
    hub_url: str,
    method: str,
    address: str,
    *,
    headers: Mapping[str, str],
    body: Pieces | None = None,
) -> Generator[BulkResponse]:
    """Yield the store's answer to a request, unread.

    Raises:
        UnreachableError: there is none.
        RefusedError: the store does not take the address (any more).
        RetryableError: the store cannot just now.
        BadAnswerError: the address is none, or less protected than the hub's.
    """
    where = address.partition("?")[0]  # the rest is as good as a token
    wanted = ("https://",) if hub_url.startswith("https:") else ("https://", "http://")
    if not address.startswith(wanted):
        raise BadAnswerError(f"the hub names the store {where!r}, wanted {' or '.join(wanted)}")
    with client.exchange(method, address, headers=headers, body=body) as response:
        if response.status >= HTTPStatus.MULTIPLE_CHOICES:
            raise _failure(f"{method} {where}", response)
        yield response


def _failure(what: str, response: BulkResponse) -> HansaError:
    status = response.status
    said = response.read(MAX_REASON).decode(errors="replace")[:200]
    problem = Problem(
        type=f"urn:hansa:problem:store-{status}",
        title="The store refused",
        status=status,
        detail=said,
        slug=f"store-{status}",
    )
    kind = RetryableError if status >= HTTPStatus.INTERNAL_SERVER_ERROR else RefusedError
    return kind(f"{what} answered {status}: {said}", problem=problem)
