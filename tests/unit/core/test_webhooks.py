"""A webhook's signature covers its id, its time and its body, and nothing else passes."""

import base64
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives import hashes, hmac

from hansa_core.problems import SignatureError
from hansa_core.webhooks import (
    ID_HEADER,
    SIGNATURE_HEADER,
    TIMESTAMP_HEADER,
    TOLERANCE,
    encode_secret,
    sign,
    verify,
)

KEY = bytes(range(32))
SECRET = encode_secret(KEY)
AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
BODY = b'{"type":"alert.raised"}'


def check(headers: dict[str, str], **changes: str | bytes) -> None:
    body = changes.get("body", BODY)
    assert isinstance(body, bytes)
    verify(
        SECRET,
        message_id=str(changes.get("message_id", headers[ID_HEADER])),
        timestamp=str(changes.get("timestamp", headers[TIMESTAMP_HEADER])),
        signatures=str(changes.get("signatures", headers[SIGNATURE_HEADER])),
        body=body,
        now=AT,
    )


def test_the_signature_is_the_specifications() -> None:
    headers = sign(SECRET, message_id="evt_7", at=AT, body=BODY)
    mac = hmac.HMAC(KEY, hashes.SHA256())
    mac.update(b"evt_7.1767323045." + BODY)
    expected = "v1," + base64.b64encode(mac.finalize()).decode()
    assert headers == {
        "webhook-id": "evt_7",
        "webhook-timestamp": "1767323045",
        "webhook-signature": expected,
    }
    check(headers)


@pytest.mark.parametrize(
    "changes",
    [
        {"message_id": "evt_8"},
        {"timestamp": "1767323046"},
        {"body": BODY + b" "},
        {"signatures": ""},
        {"signatures": "v1,"},
        {"timestamp": "٣"},
    ],
)
def test_anything_changed_is_refused(changes: dict[str, str | bytes]) -> None:
    headers = sign(SECRET, message_id="evt_7", at=AT, body=BODY)
    with pytest.raises(SignatureError):
        check(headers, **changes)


def test_another_version_of_the_right_digest_is_refused() -> None:
    headers = sign(SECRET, message_id="evt_7", at=AT, body=BODY)
    with pytest.raises(SignatureError):
        check(headers, signatures=headers[SIGNATURE_HEADER].replace("v1", "v2"))


def test_one_right_signature_among_several_is_enough() -> None:
    headers = sign(SECRET, message_id="evt_7", at=AT, body=BODY)
    other = sign(encode_secret(b"x" * 32), message_id="evt_7", at=AT, body=BODY)
    check(headers, signatures=f"{other[SIGNATURE_HEADER]} {headers[SIGNATURE_HEADER]}")


def test_old_and_future_messages_are_refused() -> None:
    for shift in (TOLERANCE, -TOLERANCE):
        late = shift + timedelta(seconds=1 if shift > timedelta(0) else -1)
        check(sign(SECRET, message_id="evt_7", at=AT - shift, body=BODY))
        with pytest.raises(SignatureError, match="webhook-timestamp"):
            check(sign(SECRET, message_id="evt_7", at=AT - late, body=BODY))


def test_a_secret_that_is_none_is_refused() -> None:
    with pytest.raises(SignatureError, match="whsec_"):
        sign("whsec_?", message_id="evt_7", at=AT, body=BODY)
