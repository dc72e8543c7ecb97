"""Signatures and text forms over any bytes; canonical JSON over any JSON."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hansa_core.canonical import canonical_json
from hansa_core.problems import EncodingError, SignatureError
from hansa_core.signing import (
    Purpose,
    decode_base64,
    encode_base64,
    fingerprint,
    public_key,
    sign,
    verify,
)

BRIEF = settings(max_examples=60, deadline=None)  # a busy machine is no failure

SEEDS = st.binary(min_size=32, max_size=32)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXTS, inner, max_size=4),
    max_leaves=15,
)


@BRIEF
@given(SEEDS, st.sampled_from(Purpose), st.binary(max_size=200), st.data())
def test_changed_bit_never_verifies(
    seed: bytes, purpose: Purpose, payload: bytes, data: st.DataObject
) -> None:
    signature = sign(seed, purpose, payload)
    verify(public_key(seed), purpose, payload, signature)
    forged = bytearray(signature + payload)
    bit = data.draw(st.integers(0, len(forged) * 8 - 1))
    forged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(SignatureError):
        verify(public_key(seed), purpose, bytes(forged[64:]), bytes(forged[:64]))


@BRIEF
@given(SEEDS)
def test_fingerprint_is_eight_groups_of_four(seed: bytes) -> None:
    groups = fingerprint(public_key(seed)).split("-")
    assert [len(group) for group in groups] == [4] * 8
    assert set("".join(groups)) <= set("abcdefghijklmnopqrstuvwxyz234567")


@BRIEF
@given(st.binary(max_size=70))
def test_base64_round_trips(data: bytes) -> None:
    assert decode_base64(encode_base64(data), size=len(data)) == data


@BRIEF
@given(st.text("ABQRZaz09-_+/= \n", max_size=12) | st.text(max_size=12))
def test_no_two_texts_mean_the_same_bytes(text: str) -> None:
    try:
        data = decode_base64(text)
    except EncodingError:
        return
    assert encode_base64(data) == text


@BRIEF
@given(JSON)
def test_canonical_json_reads_back_as_the_same_value(value: Any) -> None:
    text = canonical_json(value)
    read: Any = json.loads(text)
    assert read == value
    assert canonical_json(read) == text


@BRIEF
@given(st.dictionaries(TEXTS, JSON, max_size=6), st.randoms(use_true_random=False))
def test_canonical_json_does_not_depend_on_insertion_order(
    value: dict[str, Any], random: Any
) -> None:
    keys = list(value)
    random.shuffle(keys)
    assert canonical_json({key: value[key] for key in keys}) == canonical_json(value)
