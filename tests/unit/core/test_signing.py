"""Signatures: the RFC's vectors, our frozen vectors good and bad, and the text forms."""

import json
from pathlib import Path
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from hansa_core.problems import EncodingError, KeyFormatError, SignatureError
from hansa_core.signing import (
    Purpose,
    decode_base64,
    encode_base64,
    fingerprint,
    generate_private_key,
    public_key,
    sign,
    verify,
)

Case = dict[str, str]
VECTORS = cast(
    "dict[str, list[Case]]",
    json.loads((Path(__file__).parents[2] / "vectors" / "signing.json").read_text()),
)


@pytest.mark.parametrize("case", VECTORS["rfc8032"], ids=lambda case: case["name"])
def test_primitive_is_the_ed25519_of_rfc_8032(case: Case) -> None:
    private = bytes.fromhex(case["private"])
    assert public_key(private).hex() == case["public"]
    signature = Ed25519PrivateKey.from_private_bytes(private).sign(bytes.fromhex(case["message"]))
    assert signature.hex() == case["signature"]


@pytest.mark.parametrize("case", VECTORS["good"], ids=lambda case: case["purpose"])
def test_frozen_signatures_hold(case: Case) -> None:
    private, payload = bytes.fromhex(case["private"]), bytes.fromhex(case["payload"])
    purpose = Purpose(case["purpose"])
    signature = sign(private, purpose, payload)
    assert signature.hex() == case["signature"]
    assert fingerprint(public_key(private)) == case["fingerprint"]
    verify(bytes.fromhex(case["public"]), purpose, payload, signature)
    # What the signature covers, spelled out independently of the module under test.
    covered = b"hansa/1\n" + case["purpose"].encode() + b"\n" + payload
    assert Ed25519PrivateKey.from_private_bytes(private).sign(covered) == signature


@pytest.mark.parametrize("case", VECTORS["bad"], ids=lambda case: case["why"])
def test_frozen_forgeries_are_refused(case: Case) -> None:
    with pytest.raises(SignatureError):
        verify(
            bytes.fromhex(case["public"]),
            Purpose(case["purpose"]),
            bytes.fromhex(case["payload"]),
            bytes.fromhex(case["signature"]),
        )


def test_every_purpose_has_a_frozen_vector() -> None:
    assert {case["purpose"] for case in VECTORS["good"]} == set(Purpose)


def test_signature_for_one_purpose_fails_for_all_others() -> None:
    private = generate_private_key()
    for made in Purpose:
        signature = sign(private, made, b"payload")
        for asked in Purpose:
            if asked is made:
                verify(public_key(private), asked, b"payload", signature)
            else:
                with pytest.raises(SignatureError, match=asked.value):
                    verify(public_key(private), asked, b"payload", signature)


def test_generated_keys_differ() -> None:
    keys = {generate_private_key() for _ in range(8)}
    assert len(keys) == 8
    assert {len(key) for key in keys} == {32}


@pytest.mark.parametrize("key", [b"", b"\0" * 31, b"\0" * 33])
def test_keys_of_another_length_are_refused(key: bytes) -> None:
    with pytest.raises(KeyFormatError, match=f"private key has {len(key)} bytes, wanted 32"):
        sign(key, Purpose.ENROLL, b"")
    with pytest.raises(KeyFormatError, match=f"public key has {len(key)} bytes, wanted 32"):
        verify(key, Purpose.ENROLL, b"", b"\0" * 64)
    with pytest.raises(KeyFormatError):
        fingerprint(key)


def test_public_key_that_is_no_point_verifies_nothing() -> None:
    with pytest.raises(SignatureError):
        verify(b"\x02" + b"\0" * 30 + b"\x7f", Purpose.ENROLL, b"", b"\0" * 64)


@pytest.mark.parametrize("size", range(6))
def test_base64_round_trips_without_padding(size: int) -> None:
    data = bytes(range(250, 250 + size))
    assert "=" not in encode_base64(data)
    assert decode_base64(encode_base64(data), size=size) == data


@pytest.mark.parametrize(
    "text", ["QQ==", "QQ=", "Q", "QUJ\n", " QUJD", "a+b/", "QR", "QUK", "QUJDé", "QQQQQ"]
)
def test_base64_that_is_not_canonical_is_refused(text: str) -> None:
    with pytest.raises(EncodingError):
        decode_base64(text)


def test_base64_of_another_size_is_refused() -> None:
    with pytest.raises(EncodingError, match="holds 3 bytes, wanted 32"):
        decode_base64("QUJD", size=32)
