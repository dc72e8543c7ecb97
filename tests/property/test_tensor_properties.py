"""Any tensors: our files against the reference package's, and headers nobody meant to write."""

import contextlib
import json
from typing import Any, cast

import safetensors
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from hansa_core.dtypes import BFLOAT16, DType
from hansa_core.layouts import METADATA, Layout
from hansa_core.problems import TensorFormatError
from hansa_core.tensors import (
    bytes_reader,
    header_size,
    parse_header,
    read_tensors,
    write_tensors,
)

BRIEF = settings(max_examples=60, deadline=None)  # a busy machine is no failure

Tensors = dict[str, NDArray[Any]]

NAMES = st.text(
    st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda name: name != METADATA)  # fmt: skip


@st.composite
def arrays(draw: st.DrawFn) -> NDArray[Any]:
    dtype = draw(st.sampled_from(DType))
    shape = draw(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4))
    stored = "<u2" if dtype is DType.BF16 else dtype.numpy
    return draw(hnp.arrays(stored, shape)).view(dtype.numpy)


def tensors() -> st.SearchStrategy[Tensors]:
    return st.dictionaries(NAMES, arrays(), max_size=6)


def encode(tensors: Tensors, metadata: dict[str, str] | None = None) -> bytes:
    file = bytearray()
    write_tensors(tensors, file.extend, metadata)
    return bytes(file)


def described(tensors: Tensors) -> dict[str, tuple[DType, tuple[int, ...], bytes]]:
    """Return what a file keeps of arrays; NaN compare by their bits."""
    layout = Layout.of(tensors)
    return {t.name: (t.dtype, t.shape, tensors[t.name].tobytes()) for t in layout.tensors}


def reference_read(file: bytes) -> dict[str, tuple[DType, tuple[int, ...], bytes]]:
    views = cast("list[tuple[str, dict[str, Any]]]", safetensors.deserialize(file))
    return {
        name: (DType(view["dtype"]), tuple(view["shape"]), bytes(view["data"]))
        for name, view in views
    }


def reference_write(tensors: Tensors) -> bytes:
    specs: dict[str, Any] = {}
    for name, array in tensors.items():
        dtype = "bfloat16" if array.dtype == BFLOAT16 else array.dtype.name
        specs[name] = safetensors.TensorSpec(
            dtype=dtype, shape=array.shape, data_ptr=array.ctypes.data, data_len=array.nbytes
        )
    return safetensors.serialize(specs)


@BRIEF
@given(tensors(), st.dictionaries(st.text(max_size=9), st.text(max_size=9), max_size=3))
def test_reference_reads_what_we_write(tensors: Tensors, metadata: dict[str, str]) -> None:
    with contextlib.suppress(UnicodeEncodeError):
        json.dumps(metadata, ensure_ascii=False).encode()
        file = encode(tensors, metadata)
        assert reference_read(file) == described(tensors)
        assert parse_header(file).metadata == metadata


@BRIEF
@given(tensors())
def test_we_read_what_the_reference_writes(tensors: Tensors) -> None:
    file = reference_write(tensors)
    assert described(read_tensors(bytes_reader(file), len(file))) == described(tensors)


@BRIEF
@given(tensors())
def test_our_bytes_are_the_reference_bytes(tensors: Tensors) -> None:
    assert encode(tensors) == reference_write(tensors)


@BRIEF
@given(tensors(), st.randoms(use_true_random=False))
def test_same_tensors_give_the_same_bytes(tensors: Tensors, random: Any) -> None:
    names = list(tensors)
    random.shuffle(names)
    file = encode(tensors)
    assert encode({name: tensors[name] for name in names}) == file
    assert encode(read_tensors(bytes_reader(file), len(file))) == file


@BRIEF
@given(tensors())
def test_layout_survives_json(tensors: Tensors) -> None:
    layout = Layout.of(tensors)
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


@BRIEF
@given(tensors(), st.data())
def test_changed_header_is_refused_or_read_as_the_reference_does(
    tensors: Tensors, data: st.DataObject
) -> None:
    file = bytearray(encode(tensors))
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, header_size(file[:8]) - 1 if len(file) > 8 else 0))
        file[at] = data.draw(st.sampled_from(b'0123456789{}[]",:- \x00\xffFUIB'))
        if at < 8:
            break
    try:
        found = read_tensors(bytes_reader(file), len(file))
    except TensorFormatError:
        return
    assert described(found) == reference_read(bytes(file))


@BRIEF
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["dtype", "shape", "data_offsets", METADATA, "w"]), inner, max_size=4),
    max_leaves=12,
))  # fmt: skip
def test_any_json_as_a_header_raises_nothing_else(value: object) -> None:
    text = json.dumps(value).encode()
    with contextlib.suppress(TensorFormatError):
        parse_header(len(text).to_bytes(8, "little") + text)
    with contextlib.suppress(TensorFormatError):
        Layout.from_json(value)
