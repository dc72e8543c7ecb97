"""Signatures of webhooks, as the Standard Webhooks specification (version 1) has them.

The hub signs and a receiver verifies with the same functions. A signature covers the message's
id and time as well as its body, so that neither can be swapped; a receiver refuses old times and
remembers ids, for a message may come twice.
"""

import base64
import binascii
import hashlib
import hmac
from datetime import datetime, timedelta

from hansa_core.problems import SignatureError

ID_HEADER = "webhook-id"
TIMESTAMP_HEADER = "webhook-timestamp"
SIGNATURE_HEADER = "webhook-signature"
SECRET_PREFIX = "whsec_"  # noqa: S105 -- what every secret starts with
VERSION = "v1"  # HMAC-SHA256
TOLERANCE = timedelta(minutes=5)


def encode_secret(key: bytes) -> str:
    """Return a key as people copy it."""
    return SECRET_PREFIX + base64.b64encode(key).decode("ascii")


def sign(secret: str, *, message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """Return the three headers of one attempt to deliver `body`.

    Raises:
        SignatureError: the secret is not one.
    """
    timestamp = str(int(at.timestamp()))
    return {
        ID_HEADER: message_id,
        TIMESTAMP_HEADER: timestamp,
        SIGNATURE_HEADER: f"{VERSION},{_digest(secret, message_id, timestamp, body)}",
    }


def verify(
    secret: str,
    *,
    message_id: str,
    timestamp: str,
    signatures: str,
    body: bytes,
    now: datetime,
    tolerance: timedelta = TOLERANCE,
) -> None:
    """Check what came with a message: the values of its three headers, and its body unparsed.

    Raises:
        SignatureError: no signature is right, or the time is not close to `now`.
    """
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):  # noqa: PLR2004
        raise SignatureError(f"{TIMESTAMP_HEADER} is {timestamp[:40]!r}, wanted Unix seconds")
    age = now.timestamp() - int(timestamp)
    if abs(age) > tolerance.total_seconds():
        raise SignatureError(
            f"{TIMESTAMP_HEADER} is {age:.0f} s old, wanted at most {tolerance.total_seconds():.0f}"
        )
    wanted = _digest(secret, message_id, timestamp, body).encode()
    for given in signatures.split(" "):  # several while a secret is being replaced
        version, _, digest = given.partition(",")
        if version == VERSION and hmac.compare_digest(digest.encode(), wanted):
            return
    raise SignatureError(f"no {VERSION} signature of message {message_id[:80]!r} is right")


def _digest(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    try:
        key = base64.b64decode(secret.removeprefix(SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError) as error:
        raise SignatureError(f"a webhook's secret is {SECRET_PREFIX} and base64") from error
    signed = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode("ascii")
