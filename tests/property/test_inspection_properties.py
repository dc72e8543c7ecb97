"""The inspector's verdict does not depend on where the network cut the stream."""

import hashlib
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from hansa_core.dtypes import DType, bf16_to_f32
from hansa_core.inspection import Inspection, UpdateInspector
from hansa_core.layouts import Layout
from hansa_core.problems import RefusalReason, UpdateRefusedError
from hansa_core.tensors import write_tensors

BRIEF = settings(max_examples=60, deadline=None)  # a busy machine is no failure

LIMIT = 10**6  # bytes

# Bits are drawn, not values, so that NaN of all kinds, infinities and subnormals turn up; F64
# values are kept where their squares fit.
BITS: dict[DType, Any] = {DType.F32: "<u4", DType.F16: "<u2", DType.BF16: "<u2"}


@st.composite
def tensors(draw: st.DrawFn) -> NDArray[Any]:
    dtype = draw(st.sampled_from(DType))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=5))
    if dtype is DType.F64:
        return draw(hnp.arrays("<f8", shape, elements=st.floats(-1e100, 1e100) | st.just(np.nan)))
    if dtype is DType.BOOL:
        return draw(hnp.arrays("u1", shape, elements=st.integers(0, 2))).view(np.bool_)
    stored: Any = BITS.get(dtype, dtype.numpy)
    return draw(hnp.arrays(stored, shape)).view(dtype.numpy)


MODELS = st.dictionaries(st.text("abcdef", min_size=1, max_size=4), tensors(), max_size=5)


def encode(model: dict[str, NDArray[Any]]) -> bytes:
    file = bytearray()
    write_tensors(model, file.extend)
    return bytes(file)


def inspect(file: bytes, expected: Layout | None, cuts: list[int]) -> Inspection | tuple[str, str]:
    """Feed the file in pieces; return what was found, or the refusal's reason and message."""
    inspector = UpdateInspector(expected, LIMIT)
    try:
        for start, stop in pairwise([0, *sorted(cut % (len(file) + 1) for cut in cuts), len(file)]):
            inspector.feed(memoryview(file)[start:stop])
        return inspector.finish()
    except UpdateRefusedError as error:
        return error.reason, str(error)


def is_good(array: NDArray[Any]) -> bool:
    if array.dtype == np.bool_:
        return bool((array.view(np.uint8) <= 1).all())
    if array.dtype.names:
        array = bf16_to_f32(array)
    return bool(np.isfinite(array).all())


@BRIEF
@given(MODELS, st.lists(st.integers(0, 10_000), max_size=30), st.data())
def test_verdict_does_not_depend_on_the_cuts(
    model: dict[str, NDArray[Any]], cuts: list[int], data: st.DataObject
) -> None:
    file = bytearray(encode(model))
    if data.draw(st.booleans()):
        file[data.draw(st.integers(0, len(file) - 1))] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        file = file[: data.draw(st.integers(0, len(file)))]
    expected = data.draw(st.sampled_from([None, Layout.of(model)]))
    whole = inspect(bytes(file), expected, [])
    cut = inspect(bytes(file), expected, cuts)
    bytewise = inspect(bytes(file), expected, list(range(len(file))))
    for other in (cut, bytewise):
        if isinstance(whole, Inspection):
            assert isinstance(other, Inspection)
            assert (other.size, other.digest_hex) == (whole.size, whole.digest_hex)
            assert other.layout == whole.layout
            assert other.l2_norm == pytest.approx(whole.l2_norm, rel=1e-12)
        else:
            assert other == whole


@BRIEF
@given(MODELS, st.lists(st.integers(0, 10_000), max_size=10))
def test_verdict_is_what_numpy_says(model: dict[str, NDArray[Any]], cuts: list[int]) -> None:
    file = encode(model)
    found = inspect(file, Layout.of(model), cuts)
    if not all(is_good(array) for array in model.values()):
        assert isinstance(found, tuple)
        assert found[0] in (RefusalReason.NON_FINITE, RefusalReason.NOT_BOOLEAN)
        return
    assert isinstance(found, Inspection)
    assert found.digest_hex == hashlib.sha256(file).hexdigest()
    squares = 0.0
    for array in model.values():
        if array.dtype.kind == "f" or array.dtype.names:
            wide = bf16_to_f32(array) if array.dtype.names else array
            squares += float((wide.astype("f8") ** 2).sum())
    assert found.l2_norm == pytest.approx(squares**0.5, rel=1e-12)
