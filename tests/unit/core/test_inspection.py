"""What the inspector refuses, how early, and what it reports of a good update."""

import hashlib
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.dtypes import BFLOAT16, f32_to_bf16
from hansa_core.inspection import UpdateInspector
from hansa_core.layouts import Layout
from hansa_core.problems import RefusalReason, UpdateRefusedError
from hansa_core.tensors import header_size, write_tensors

LIMIT = 10**6  # bytes


def encode(tensors: dict[str, NDArray[Any]], metadata: dict[str, str] | None = None) -> bytes:
    file = bytearray()
    write_tensors(tensors, file.extend, metadata)
    return bytes(file)


def refusal(inspector: UpdateInspector, *chunks: bytes) -> UpdateRefusedError:
    """Return the error of the first chunk that is refused, or of finishing after the last."""
    try:
        for chunk in chunks:
            inspector.feed(chunk)
        inspector.finish()
    except UpdateRefusedError as error:
        return error
    pytest.fail("the update was accepted")


MODEL: dict[str, NDArray[Any]] = {
    "w": np.linspace(-1, 1, 30_000, dtype="f4").reshape(100, 300),
    "b": np.array([3.0, 4.0]),
    "steps": np.array(7),
}
FILE = encode(MODEL)
LAYOUT = Layout.of(MODEL)


def test_good_update_is_described() -> None:
    inspector = UpdateInspector(LAYOUT, LIMIT)
    inspector.feed(FILE)
    found = inspector.finish()
    assert (found.size, found.layout) == (len(FILE), LAYOUT)
    assert found.digest_hex == hashlib.sha256(FILE).hexdigest()
    squares = 25 + float((MODEL["w"].astype("f8") ** 2).sum())
    assert found.l2_norm == pytest.approx(squares**0.5, rel=1e-12)


def test_any_layout_is_accepted_where_none_is_expected() -> None:
    inspector = UpdateInspector(None, LIMIT)
    inspector.feed(memoryview(FILE))
    assert inspector.finish().layout == LAYOUT


def test_differences_are_listed_up_to_five() -> None:
    other = {f"extra{index}": np.zeros(1, "f4") for index in range(6)}
    other |= {"w": np.zeros((300, 100), "f4"), "steps": np.array(7)}
    error = refusal(UpdateInspector(LAYOUT, LIMIT), encode(other))
    assert error.reason is RefusalReason.LAYOUT_MISMATCH
    assert "'b' is missing, wanted F64 [2]" in str(error)
    assert "'w' is F32 [300, 100], wanted F32 [100, 300]" in str(error)
    assert "'extra0' is unexpected" in str(error)
    assert "and 3 more" in str(error)


def test_other_dtype_is_refused_before_any_data() -> None:
    other = encode({**MODEL, "w": MODEL["w"].astype("f8")})
    error = refusal(UpdateInspector(LAYOUT, LIMIT), other[: header_size(other)])
    assert error.reason is RefusalReason.LAYOUT_MISMATCH
    assert "'w' is F64 [100, 300], wanted F32 [100, 300]" in str(error)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("index", [0, 8_191, 8_192, 29_999])
def test_non_finite_float_is_refused_with_its_place(bad: float, index: int) -> None:
    weights = MODEL["w"].copy()
    weights.flat[index] = bad
    weights.flat[29_999] = np.nan if index != 29_999 else bad
    error = refusal(UpdateInspector(LAYOUT, LIMIT), encode({**MODEL, "w": weights}))
    assert error.reason is RefusalReason.NON_FINITE
    assert f"tensor 'w' element {index} is {bad}" in str(error)


def test_non_finite_half_floats_are_refused() -> None:
    half = np.array([1, np.inf], "f2")
    brain = f32_to_bf16(np.array([1, 2, np.nan], "f4")).view(BFLOAT16)
    for tensor, index in ((half, 1), (brain, 2)):
        error = refusal(UpdateInspector(None, LIMIT), encode({"a": np.zeros(3), "h": tensor}))
        assert error.reason is RefusalReason.NON_FINITE
        assert f"tensor 'h' element {index}" in str(error)


def test_largest_floats_are_accepted() -> None:
    file = encode({"w": np.full(9_000, np.finfo("f4").max), "h": np.full(3, 65504, "f2")})
    inspector = UpdateInspector(None, LIMIT)
    inspector.feed(file)
    assert inspector.finish().l2_norm == pytest.approx(3.4028e38 * 9_000**0.5, rel=1e-4)


def test_norm_beyond_float64_is_refused() -> None:
    error = refusal(UpdateInspector(None, LIMIT), encode({"w": np.array([1.0, 1e200])}))
    assert error.reason is RefusalReason.OVERFLOW
    assert "'w'" in str(error)


def test_bool_byte_above_one_is_refused() -> None:
    file = encode({"a": np.zeros(3), "m": np.ones(5, bool)})
    error = refusal(UpdateInspector(None, LIMIT), file[:-2] + b"\2\1")
    assert error.reason is RefusalReason.NOT_BOOLEAN
    assert "tensor 'm' element 3 is 2" in str(error)


@pytest.mark.parametrize("kept", [0, 3, 8, 50, len(FILE) - 1])
def test_truncated_file_is_refused(kept: int) -> None:
    error = refusal(UpdateInspector(LAYOUT, LIMIT), FILE[:kept])
    assert error.reason is RefusalReason.TRUNCATED
    assert f"after {kept} bytes" in str(error)


def test_trailing_byte_is_refused() -> None:
    for chunks in ([FILE + b"\0"], [FILE, b"\0"]):
        error = refusal(UpdateInspector(LAYOUT, LIMIT), *chunks)
        assert error.reason is RefusalReason.TRAILING_BYTES


def test_malformed_header_is_refused() -> None:
    error = refusal(UpdateInspector(None, LIMIT), (8).to_bytes(8, "little") + b'{"w": 1}')
    assert error.reason is RefusalReason.MALFORMED
    assert "'w'" in str(error)


def test_too_large_file_is_refused_by_its_header_alone() -> None:
    error = refusal(UpdateInspector(LAYOUT, len(FILE) - 1), FILE[: header_size(FILE)])
    assert error.reason is RefusalReason.TOO_LARGE
    assert f"{len(FILE)} bytes, wanted at most {len(FILE) - 1}" in str(error)
    exact = UpdateInspector(LAYOUT, len(FILE))
    exact.feed(FILE)
    assert exact.finish().size == len(FILE)


def test_header_far_longer_than_the_expected_one_is_refused_by_its_length() -> None:
    error = refusal(UpdateInspector(LAYOUT, 10**9), (2**20).to_bytes(8, "little"))
    assert error.reason is RefusalReason.TOO_LARGE


def test_header_with_escapes_and_metadata_is_accepted() -> None:
    tensors = {f"{index:03}" + "q" * 500: np.zeros(2, "f4") for index in range(100)}
    plain = encode(tensors, {"note": "x" * 60_000})
    head = plain[8 : header_size(plain)].replace(b"q", b"\\u0071")
    file = len(head).to_bytes(8, "little") + head + plain[header_size(plain) :]
    inspector = UpdateInspector(Layout.of(tensors), LIMIT)
    inspector.feed(file)
    assert inspector.finish().size == len(file)


def test_refused_inspector_stays_refused() -> None:
    bad = encode({**MODEL, "b": np.array([np.nan, 1.0])})
    inspector = UpdateInspector(LAYOUT, LIMIT)
    first = refusal(inspector, bad)
    assert refusal(inspector, FILE) is first
    assert refusal(inspector) is first


def test_floats_in_a_file_without_padding_are_checked() -> None:
    head = b'{"w":{"dtype":"F32","shape":[3],"data_offsets":[0,12]}}'
    prefix = len(head).to_bytes(8, "little") + head
    assert len(prefix) % 4 == 3
    good = prefix + np.array([1, 2, 3], "<f4").tobytes()
    inspector = UpdateInspector(None, LIMIT)
    inspector.feed(good)
    assert inspector.finish().l2_norm == pytest.approx(14**0.5)
    error = refusal(
        UpdateInspector(None, LIMIT), prefix + np.array([1, 2, np.nan], "<f4").tobytes()
    )
    assert "element 2" in str(error)
