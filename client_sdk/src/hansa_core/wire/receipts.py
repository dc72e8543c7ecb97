"""Messages about receipts, their holds, and the hub that signs them."""

from datetime import datetime

from pydantic import Field

from hansa_core.wire.base import Digest, Request, Response


class Hub(Response):
    """Who answers here: anybody may ask, before they trust anything it signs."""

    name: str
    version: str
    public_key: str  # Ed25519, url-safe base64, no padding
    fingerprint: str  # for people to compare, and to pin


class HoldRequest(Request):
    """Why a receipt's artifacts have to stay."""

    reason: str = Field(min_length=1, max_length=1000)


class ReceiptHold(Response):
    """Keeps every artifact that the receipt names from being deleted."""

    reason: str
    held_by: str  # email
    created_at: datetime


class Receipt(Response):
    """A signed receipt (hansa_core.receipts) as it is stored."""

    number: int  # from 1 in the run's chain
    digest: Digest  # SHA-256 of `body`
    round_number: int | None  # None: of the run's end
    body: str  # canonical JSON, exactly the signed bytes
    signature: str
    public_key: str
    fingerprint: str  # of `public_key`
    hold: ReceiptHold | None
    created_at: datetime
