"""The tensor format: what is refused in a header, what is written, bfloat16 rounding."""

import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.dtypes import BFLOAT16, DType, add_saturating, bf16_to_f32, dtype_of, f32_to_bf16
from hansa_core.layouts import Layout, TensorShape
from hansa_core.problems import TensorFormatError
from hansa_core.tensors import (
    MAX_HEADER_SIZE,
    bytes_reader,
    encode_header,
    header_size,
    parse_header,
    read_tensors,
    view_tensors,
    write_tensors,
)


def encode(tensors: dict[str, NDArray[Any]], metadata: dict[str, str] | None = None) -> bytes:
    file = bytearray()
    size = write_tensors(tensors, file.extend, metadata)
    assert size == len(file)
    return bytes(file)


def framed(text: str | bytes) -> bytes:
    raw = text.encode() if isinstance(text, str) else text
    return len(raw).to_bytes(8, "little") + raw


def header_with(**changes: object) -> bytes:
    tensor: dict[str, object] = {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}
    return framed(json.dumps({"w": {**tensor, **changes}}))


def test_bytes_written_are_frozen() -> None:
    file = encode({"b": np.array([1, 2], "u1"), "a": np.array(1.5, "f4")}, {"k": "v"})
    head = (
        b'{"__metadata__":{"k":"v"},"a":{"dtype":"F32","shape":[],"data_offsets":[0,4]},'
        b'"b":{"dtype":"U8","shape":[2],"data_offsets":[4,6]}}'
    )
    assert len(head) == 130
    assert file == (136).to_bytes(8, "little") + head + b" " * 6 + b"\x00\x00\xc0\x3f\x01\x02"


def test_insertion_order_memory_order_and_byte_order_do_not_matter() -> None:
    a = np.arange(6, dtype="<f4").reshape(2, 3)
    b = np.arange(4, dtype="<i8")
    plain = encode({"a": a, "b": b})
    assert encode({"b": b.astype(">i8"), "a": np.asfortranarray(a)}) == plain
    assert encode({"b": np.repeat(b, 2)[::2], "a": a.astype(">f4")}) == plain


def test_every_tensor_starts_at_a_multiple_of_its_item_size() -> None:
    arrays = {dtype.value: np.zeros(3, dtype.numpy) for dtype in DType}
    header = parse_header(encode(arrays))
    assert header.size % 8 == 0
    assert all(spec.start % spec.dtype.itemsize == 0 for spec in header.specs)


def test_empty_model_and_empty_tensors_round_trip() -> None:
    for tensors in ({}, {"e": np.zeros((0, 3), "f4"), "s": np.array(True)}):
        file = encode(tensors)
        found = read_tensors(bytes_reader(file), len(file))
        assert {name: array.shape for name, array in found.items()} == {
            name: array.shape for name, array in tensors.items()
        }


def test_uint16_is_not_taken_for_bfloat16() -> None:
    bits = np.array([0x3F80], np.uint16)
    with pytest.raises(TensorFormatError, match=r"'w'.*uint16.*BFLOAT16"):
        encode({"w": bits})
    assert dtype_of(bits.view(BFLOAT16)) is DType.BF16


def test_layout_is_the_same_in_any_order_and_survives_json() -> None:
    a = TensorShape("a", DType.F32, (2, 3))
    b = TensorShape("b", DType.I64, ())
    layout = Layout((a, b))
    assert layout == Layout((b, a))
    assert (layout.parameters, layout.size) == (7, 32)
    assert Layout.from_json(json.loads(json.dumps(layout.to_json()))) == layout


@pytest.mark.parametrize(
    "value",
    [
        None,
        {},
        [1],
        [{"name": "a", "dtype": "F32"}],
        [{"name": "a", "dtype": "F32", "shape": [1], "more": 1}],
        [{"name": 1, "dtype": "F32", "shape": [1]}],
        [{"name": "a", "dtype": "F32", "shape": [1]}] * 2,
        [{"name": "a", "dtype": "F32", "shape": [True]}],
    ],
)
def test_layout_json_of_another_form_is_refused(value: object) -> None:
    with pytest.raises(TensorFormatError):
        Layout.from_json(value)


@pytest.mark.parametrize(
    ("header", "named"),
    [
        (b"", "0 bytes"),
        (b"\1" * 7, "7 bytes"),
        ((1).to_bytes(8, "little"), "claims 1 bytes"),
        ((MAX_HEADER_SIZE + 1).to_bytes(8, "little"), f"wanted 2 to {MAX_HEADER_SIZE}"),
        (b"\xff" * 8, "claims 18446744073709551615"),
        ((9).to_bytes(8, "little") + b"{}", "10 bytes of the header seen, wanted 17"),
        (framed("[]"), r"starts with b'\['"),
        (framed(" {}"), "starts with b' '"),
        (framed('{"a":'), "not JSON"),
        (framed(b'{"\xff":1}'), "not JSON in UTF-8"),
        (framed('{"a":' + "[" * 200_000 + "}"), "not JSON"),
        (framed('{"a":' + "9" * 5_000 + "}"), "not JSON"),
        (framed('{"a":1,"a":1}'), "'a' twice"),
        (framed('{"w":{"dtype":"F32","dtype":"F32","shape":[],"data_offsets":[0,4]}}'), "twice"),
        (framed('{"__metadata__":[]}'), "__metadata__ is a list"),
        (framed('{"__metadata__":{"a":1}}'), "'a' is not a string"),
        (framed(json.dumps({"__metadata__": {"a": "x" * 65_537}})), "65537 characters"),
        (framed(json.dumps({"__metadata__": dict.fromkeys(map(str, range(1025)), "")})), "1025"),
        (framed('{"w":1}'), "'w' is described by 1"),
        (header_with(more=1), "'w' is described by"),
        (header_with(dtype="F8_E4M3"), "'w' has dtype 'F8_E4M3'"),
        (header_with(dtype=["F32"]), r"'w' has dtype \['F32'\]"),
        (header_with(shape="23"), "'w' shape is '23'"),
        (header_with(shape=[2.0, 3]), r"'w' shape is \[2.0, 3\]"),
        (header_with(shape=[True, 6]), r"'w' shape is \[True, 6\]"),
        (header_with(shape=[-2, -3]), r"\[-2, -3\], wanted no negative"),
        (header_with(shape=[2**49]), "'w' shape is"),
        (header_with(shape=[0, 2**40, 2**40]), "'w' spans"),
        (header_with(shape=[1] * 33), "33 dimensions, wanted at most 32"),
        (header_with(shape=[2, 2]), "'w' holds 24 bytes, wanted 16"),
        (header_with(data_offsets=[0]), "'w' has data_offsets"),
        (header_with(data_offsets=[24, 0]), "'w' has data_offsets"),
        (header_with(data_offsets=[-24, 0]), "'w' has data_offsets"),
        (header_with(data_offsets=[0, 2**60]), "'w' data_offsets is"),
        (header_with(data_offsets=[8, 32]), "'w' starts at 8, wanted 0"),
        (framed(json.dumps({"": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}})), "0 char"),
        (framed(json.dumps({"n" * 513: {"dtype": "U8", "shape": [], "data_offsets": [0, 1]}})),
         "513 characters"),
        (framed('{"\\ud800":{"dtype":"U8","shape":[],"data_offsets":[0,1]}}'), "lone surrogate"),
    ],
)  # fmt: skip
def test_malformed_header_is_refused(header: bytes, named: str) -> None:
    with pytest.raises(TensorFormatError, match=named):
        parse_header(header)


@pytest.mark.parametrize(("start", "named"), [(2, "'b' starts at 2"), (5, "'b' starts at 5")])
def test_overlaps_and_holes_are_refused(start: int, named: str) -> None:
    offsets = {"a": [0, 4], "b": [start, start + 4]}
    fields = {
        name: {"dtype": "U8", "shape": [4], "data_offsets": span} for name, span in offsets.items()
    }
    with pytest.raises(TensorFormatError, match=f"{named}, wanted 4"):
        parse_header(framed(json.dumps(fields)))


def test_refusals_do_not_echo_a_hostile_header() -> None:
    for header in (
        header_with(dtype="x" * 10_000),
        header_with(shape=["x" * 10_000] * 1_000),
        framed('{"w":' + "[" * 500 + "]" * 500 + "}"),
    ):
        with pytest.raises(TensorFormatError) as caught:
            parse_header(header)
        assert len(str(caught.value)) < 500


def test_too_many_tensors_are_refused() -> None:
    tensors = tuple(TensorShape(f"t{index}", DType.U8, ()) for index in range(100_001))
    with pytest.raises(TensorFormatError, match="100001 tensors seen, wanted at most 100000"):
        Layout(tensors)


@pytest.mark.parametrize("surplus", [-1, 1])
def test_file_of_another_size_than_its_header_says_is_refused(surplus: int) -> None:
    file = encode({"w": np.zeros(4)})
    file = (file + b"\0")[: len(file) + surplus]
    with pytest.raises(TensorFormatError, match=f"the file has {len(file)} bytes"):
        read_tensors(bytes_reader(file), len(file))


def test_bool_bytes_above_one_are_refused() -> None:
    file = encode({"w": np.array([False, True])})[:-1] + b"\2"
    with pytest.raises(TensorFormatError, match="'w'"):
        read_tensors(bytes_reader(file), len(file))


def test_header_size_counts_the_length_too() -> None:
    header = encode_header(Layout((TensorShape("w", DType.F32, (2,)),)))
    assert header_size(header[:8]) == len(header)


@pytest.mark.parametrize(
    ("bits", "rounded"),
    [
        (0x3F800000, 0x3F80),
        (0x3F808000, 0x3F80),  # a tie, to even
        (0x3F808001, 0x3F81),
        (0x3F818000, 0x3F82),  # a tie, to even
        (0x7F7FFFFF, 0x7F80),  # the largest float32 rounds to infinity
        (0xFF800000, 0xFF80),
        (0x00000001, 0x0000),
        (0x7F800001, 0x7FC0),  # signalling NaN, its payload below the cut
        (0xFFFFFFFF, 0xFFFF),
    ],
)
def test_float32_rounds_to_bfloat16_half_to_even(bits: int, rounded: int) -> None:
    values = np.array([bits], np.uint32).view(np.float32)
    assert f32_to_bf16(values).tolist() == [rounded]
    assert f32_to_bf16(values.reshape(())).shape == ()


def test_every_bfloat16_survives_float32() -> None:
    bits = np.arange(2**16, dtype=np.uint16)
    wide = bf16_to_f32(bits.view(BFLOAT16))
    quiet = np.where(np.isnan(wide), bits | 0x0040, bits)
    assert np.array_equal(f32_to_bf16(wide), quiet)


@pytest.mark.parametrize(
    ("dtype", "base", "addend", "total"),
    [
        (DType.I8, [0, 0, 0, 0], [0.5, 1.5, -0.5, -2.5], [0, 2, 0, -2]),
        (DType.I8, [-100, 100, 100], [200.0, 27.4, 28.0], [100, 127, 127]),
        (DType.I16, [-32768], [-1.0], [-32768]),
        (DType.U8, [250, 3], [10.0, -4.0], [255, 0]),
        (DType.BOOL, [0, 1, 1], [0.51, 1.0, -1.0], [1, 1, 0]),
        (DType.I64, [2**62, -(2**62), 5], [2.0**63, -(2.0**63), -(2.0**63)],
         [2**63 - 1, -(2**63), 5 - 2**63]),
        (DType.I64, [2**53 + 1], [1.0], [2**53 + 2]),
    ],
)  # fmt: skip
def test_integers_round_half_to_even_and_saturate(
    dtype: DType, base: list[int], addend: list[float], total: list[int]
) -> None:
    raw = np.array(base, dtype.numpy).view(np.uint8)
    out = np.empty_like(raw)
    add_saturating(raw, np.array(addend), dtype, out)
    assert out.view(dtype.numpy).astype(np.int64).tolist() == total


def test_a_view_has_what_is_read_without_a_copy() -> None:
    tensors: dict[str, NDArray[Any]] = {
        "w": np.arange(6, dtype="<f4").reshape(2, 3),
        "mask": np.array([True, False]),
        "empty": np.zeros((0, 3), "<f8"),
    }
    file = bytearray(encode(tensors))
    viewed = view_tensors(memoryview(file).toreadonly())
    assert list(viewed) == list(read_tensors(bytes_reader(file), len(file)))
    for name, array in tensors.items():
        np.testing.assert_array_equal(viewed[name], array)
        assert viewed[name].dtype == array.dtype
        assert not viewed[name].flags.writeable
    assert np.shares_memory(viewed["w"], np.frombuffer(file, np.uint8))


def test_a_view_copies_what_is_not_aligned() -> None:
    text = '{"w":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
    head = framed(text + " " * (-len(text) % 4 + 1))
    array = view_tensors(memoryview(head + np.array([1, 2], "<f4").tobytes()))["w"]
    assert array.tolist() == [1, 2]
    assert array.flags.aligned
    assert not array.flags.writeable


@pytest.mark.parametrize("file", [b"", b"\0" * 7, encode({"w": np.ones(2, "<f4")})[:-1]])
def test_a_view_of_a_file_cut_short_is_refused(file: bytes) -> None:
    with pytest.raises(TensorFormatError):
        view_tensors(memoryview(file))
