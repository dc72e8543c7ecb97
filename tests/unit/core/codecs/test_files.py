"""Encoded updates: what is carried, read in parts, rounded, and refused at the site."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.aggregation.inputs import Section
from hansa_core.codecs import files
from hansa_core.codecs.files import EncodedFile, decode, encode
from hansa_core.codecs.formats import bytes_of, format_of
from hansa_core.codecs.parts import PartDecoder, decode_part, decode_plain
from hansa_core.codecs.plans import ExactPlan, LossyPlan
from hansa_core.dtypes import BFLOAT16, DType, f32_to_bf16
from hansa_core.layouts import Layout
from hansa_core.problems import RefusalReason, TensorFormatError, UpdateRefusedError
from hansa_core.tensors import bytes_reader, write_tensors
from tests.unit.core.codecs.reference import plain_decode
from tests.unit.core.codecs.samples import (
    LOSSY,
    a_model,
    decoded,
    encoded,
    in_a_row,
    lossy,
    part,
    sections_of,
    titled,
    to_floats,
)

MODEL = a_model()
LAYOUT = Layout.of(MODEL)
FLOATS = next(it for it in sections_of(LAYOUT) if it.dtype is DType.F32)

each_codec = pytest.mark.parametrize("plan", LOSSY, ids=titled)


@each_codec
def test_decoding_is_what_the_description_says(plan: LossyPlan) -> None:
    file = encoded(plan, MODEL)
    assert len(file) == bytes_of(plan, LAYOUT)
    plain = plain_decode(file, LAYOUT, plan)
    for name, array in decoded(plan, file, LAYOUT).items():
        assert array.tobytes() == plain[name].tobytes(), name
        assert array.shape == MODEL[name].shape


@each_codec
def test_integers_and_booleans_travel_exactly(plan: LossyPlan) -> None:
    tensors = decoded(plan, encoded(plan, MODEL), LAYOUT)
    for tensor in LAYOUT.tensors:
        if tensor.dtype.is_float:
            assert tensors[tensor.name].dtype == np.float32
        else:
            assert tensors[tensor.name].dtype == tensor.dtype.numpy
            assert (tensors[tensor.name] == MODEL[tensor.name]).all()


@each_codec
def test_any_part_is_that_part_of_the_whole(plan: LossyPlan) -> None:
    file = encoded(plan, MODEL)
    opened = EncodedFile(bytes_reader(file), LAYOUT, plan)
    tensors = decoded(plan, file, LAYOUT)
    for section in sections_of(LAYOUT):
        whole = in_a_row(tensors, section)
        size = opened.dtype(section).itemsize
        assert opened.dtype(section) is (DType.F32 if section.dtype.is_float else section.dtype)
        edges = {
            0,
            1,
            5,
            31,
            32,
            255,
            256,
            4095,
            4096,
            4097,
            8192,
            section.count - 1,
            section.count,
        }
        cuts = sorted(edge for edge in edges if 0 <= edge <= section.count)
        for start in cuts:
            for stop in cuts[cuts.index(start) :]:
                found = part(opened, section, start, stop - start)
                assert found == whole[start * size : stop * size], (section.dtype, start, stop)


@each_codec
def test_a_section_of_neighbours_is_read_by_itself(plan: LossyPlan) -> None:
    file = encoded(plan, MODEL)
    opened = EncodedFile(bytes_reader(file), LAYOUT, plan)
    tensors = decoded(plan, file, LAYOUT)
    pair = tuple(tensor for tensor in LAYOUT.tensors if tensor.name in {"b", "c"})
    section = Section(3, DType.F32, pair, sum(tensor.count for tensor in pair))
    assert part(opened, section, 3, 100) == in_a_row(tensors, section)[12:412]


def test_a_section_with_a_gap_is_refused() -> None:
    plan = lossy("int8")
    opened = EncodedFile(bytes_reader(encoded(plan, MODEL)), LAYOUT, plan)
    apart = tuple(tensor for tensor in LAYOUT.tensors if tensor.name in {"a", "c"})
    section = Section(0, DType.F32, apart, sum(tensor.count for tensor in apart))
    with pytest.raises(ValueError, match="'c' is no neighbour"):
        opened.fill(section, 0, np.empty(4, np.uint8))


@pytest.mark.parametrize(("start", "count"), [(-1, 1), (0, 13_192), (13_191, 1)])
def test_elements_beyond_the_section_are_refused(start: int, count: int) -> None:
    plan = lossy("int8")
    opened = EncodedFile(bytes_reader(encoded(plan, MODEL)), LAYOUT, plan)
    section = FLOATS
    assert section.count == 13_191
    with pytest.raises(ValueError, match="the section has 13191"):
        opened.fill(section, start, np.empty(4 * count, np.uint8))


@each_codec
def test_pieces_do_not_show(plan: LossyPlan, monkeypatch: pytest.MonkeyPatch) -> None:
    file = encoded(plan, MODEL)
    monkeypatch.setattr(files, "PIECE", 100)
    assert encoded(plan, MODEL) == file
    opened = EncodedFile(bytes_reader(file), LAYOUT, plan)
    section = FLOATS
    whole = part(opened, section, 0, section.count)
    assert whole == in_a_row(decoded(plan, file, LAYOUT), section)


@each_codec
def test_how_an_array_lies_in_memory_does_not_matter(plan: LossyPlan) -> None:
    array = MODEL["a"]
    for other in (np.asfortranarray(array), array.astype(">f4"), np.repeat(array, 2, 0)[::2]):
        assert encoded(plan, {**MODEL, "a": other}) == encoded(plan, MODEL)


def test_exact_is_a_canonical_file() -> None:
    exact = bytearray()
    write_tensors(MODEL, exact.extend)
    assert encoded(ExactPlan(), MODEL) == bytes(exact)
    assert bytes_of(ExactPlan(), LAYOUT) == len(exact)
    tensors = decoded(ExactPlan(), bytes(exact), LAYOUT)
    assert all((tensors[name] == array).all() for name, array in MODEL.items())
    with pytest.raises(TensorFormatError, match="'a' is F32"):
        decoded(ExactPlan(), bytes(exact), Layout.of({**MODEL, "a": MODEL["a"].astype("f8")}))


def test_a_float32_delta_of_a_bfloat16_model_is_encoded_under_its_layout() -> None:
    delta = {"w": np.linspace(-1, 1, 50, dtype="f4").reshape(5, 10), "steps": np.array(1)}
    model = {"w": f32_to_bf16(delta["w"]).view(BFLOAT16), "steps": np.array(1)}
    file = bytearray()
    encode(lossy("bf16"), delta, file.extend, layout=Layout.of(model))
    assert bytes(file) == encoded(lossy("bf16"), model)


@pytest.mark.parametrize(
    "other",
    [
        {"w": np.zeros((2, 2), "f4")},
        {"w": np.zeros(4, "i4")},
        {"v": np.zeros(4, "f4")},
        {"w": np.zeros(4, "f4"), "v": np.zeros(1, "f4")},
        {},
    ],
)
def test_other_tensors_than_the_layouts_are_refused_before_a_byte(
    other: dict[str, NDArray[Any]],
) -> None:
    wanted = Layout.of({"w": np.zeros(4, "f8")})
    file = bytearray()
    for plan in (lossy("int8"), ExactPlan()):
        with pytest.raises(TensorFormatError, match="the tensors differ"):
            encode(plan, other, file.extend, layout=wanted)
    assert not file


@each_codec
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e300])
def test_what_is_not_finite_is_refused_by_its_place(plan: LossyPlan, bad: float) -> None:
    values = np.zeros((7, 10_000))
    values[6, 6_000] = bad
    with pytest.raises(UpdateRefusedError, match=r"tensor 'w' element 66000 is") as caught:
        encoded(plan, {"w": values})
    assert caught.value.reason is RefusalReason.NON_FINITE


@pytest.mark.parametrize(
    ("plan", "value"),
    [
        (lossy("fp16"), 7e4),
        (lossy("bf16"), 3.4e38),
        (lossy("int8"), 3.4e38),
        (lossy("int4"), 3e37),
        (lossy("topk", values="fp16"), 7e4),
        (lossy("sparse2"), -3.4e38),
    ],
    ids=lambda it: titled(it) if not isinstance(it, float) else str(it),
)
def test_what_the_codec_would_make_infinite_is_refused(plan: LossyPlan, value: float) -> None:
    values = np.zeros((7, 10), "f4")
    values[0, 3] = value
    with pytest.raises(UpdateRefusedError, match=r"tensor 'w' .* encoded, ") as caught:
        encoded(plan, {"w": values})
    assert caught.value.reason is RefusalReason.NON_FINITE


@each_codec
def test_vectors_stay_whole(plan: LossyPlan) -> None:
    found = decoded(plan, encoded(plan, MODEL), LAYOUT)
    for name in ("d.bias", "d.scale", "half.bias"):
        assert (found[name] == MODEL[name]).all()


@each_codec
def test_a_vector_stays_whole_up_to_its_limit(plan: LossyPlan) -> None:
    longest, longer = (
        Layout.of({"w": np.zeros(65_536, "f4")}),
        Layout.of({"w": np.zeros(65_537, "f4")}),
    )
    assert bytes_of(plan, longest) == 64 + 4 * 65_536
    assert bytes_of(plan, longer) < 64 + 3.6 * 65_537


@each_codec
def test_zeros_stay_zeros(plan: LossyPlan) -> None:
    model: dict[str, NDArray[Any]] = {"w": np.zeros((50, 100), "f4")}
    assert not decoded(plan, encoded(plan, model), Layout.of(model))["w"].any()


@pytest.mark.parametrize("name", ["int8", "int4"])
def test_blocks_too_small_for_a_scale_become_zeros(name: str) -> None:
    model: dict[str, NDArray[Any]] = {"w": np.array([[1e-38, -1e-45, 0, 1e-38]], "f4")}
    found = decoded(lossy(name), encoded(lossy(name), model), Layout.of(model))["w"]
    assert not found.any()


def test_stochastic_rounding_needs_a_generator() -> None:
    with pytest.raises(ValueError, match="needs a generator"):
        encode(lossy("int8", rounding="stochastic"), MODEL, bytearray().extend)


@pytest.mark.parametrize(("name", "greatest"), [("int8", 127), ("int4", 7)])
def test_stochastic_rounding_has_no_bias(name: str, greatest: int) -> None:
    plan = lossy(name, rounding="stochastic")
    model: dict[str, NDArray[Any]] = {"w": np.linspace(-1, 1, 64, dtype="f4").reshape(1, 64)}
    layout, times = Layout.of(model), 2000
    total = np.zeros((1, 64))
    for seed in range(times):
        total += decoded(plan, encoded(plan, model, seed=seed), layout)["w"]
    # A value between two codes varies by half a step at the most, the mean by that over the root.
    step = 1 / greatest
    assert np.abs(total / times - model["w"]).max() < 5 * step / 2 / np.sqrt(times)
    assert encoded(plan, model, seed=1) != encoded(plan, model, seed=2)
    assert encoded(plan, model, seed=3) == encoded(plan, model, seed=3)


@each_codec
def test_a_file_of_another_size_is_refused_before_it_is_read(plan: LossyPlan) -> None:
    def read(buffer: memoryview, offset: int) -> None:
        pytest.fail(f"{len(buffer)} bytes read at {offset}")

    size = bytes_of(plan, LAYOUT)
    for other in (0, size - 1, size + 1, 2**50):
        with pytest.raises(TensorFormatError, match=f"the file has {other} bytes, wanted {size}"):
            decode(read, other, LAYOUT, plan)


@each_codec
def test_a_file_of_another_model_is_not_opened(plan: LossyPlan) -> None:
    file = encoded(plan, MODEL)
    other = Layout.of({**MODEL, "b": np.zeros(6, "f4")})
    with pytest.raises(UpdateRefusedError) as caught:
        EncodedFile(bytes_reader(file), other, plan)
    assert caught.value.reason is RefusalReason.LAYOUT_MISMATCH


@pytest.mark.parametrize("decoder", [decode_part, decode_plain])
@pytest.mark.parametrize("pair", [(7, 7), (8, 7), (7, 4000), (4095, 4095)])
@pytest.mark.parametrize("name", ["topk", "sparse2"])
def test_positions_out_of_order_are_not_written_to(
    name: str, pair: tuple[int, int], decoder: PartDecoder
) -> None:
    plan = lossy(name, fraction=0.0004)  # two values
    model: dict[str, NDArray[Any]] = {"w": np.ones((50, 80), "f4")}
    layout = Layout.of(model)
    file = bytearray(encoded(plan, model))
    at = 64 + (4 if name == "sparse2" else 0)
    file[at : at + 3] = (pair[0] | pair[1] << 12).to_bytes(3, "little")
    opened = EncodedFile(bytes_reader(bytes(file)), layout, plan, decoder=decoder)
    with pytest.raises(TensorFormatError, match="do not ascend"):
        part(opened, sections_of(layout)[0], 0, 4000)


def test_of_equal_values_the_first_ones_are_sent() -> None:
    plan = lossy("topk", fraction=0.1)
    model: dict[str, NDArray[Any]] = {"w": np.array([[1, -2, 2, 1, -1, 1, 2, 0, 1, 1] * 2], "f4")}
    found = decoded(plan, encoded(plan, model), Layout.of(model))["w"]
    assert np.flatnonzero(found).tolist() == [1, 2, 6]  # three of twenty


def test_two_bits_keep_signs_and_two_sizes() -> None:
    plan = lossy("sparse2", fraction=1)
    model: dict[str, NDArray[Any]] = {"w": np.array([[1.0, -1.0, 4.0, -4.0, 1.0, 4.0] * 9], "f4")}
    found = decoded(plan, encoded(plan, model), Layout.of(model))["w"]
    assert (found == model["w"]).all()


def test_two_bits_leave_zeros_alone() -> None:
    plan = lossy("sparse2", fraction=0.5)
    model: dict[str, NDArray[Any]] = {
        "w": np.array([[0.0, 3.0, 0.0, -3.0, 0, 0, 0, 0, 0, 0]], "f4")
    }
    found = decoded(plan, encoded(plan, model), Layout.of(model))["w"]
    assert (found == model["w"]).all()


@pytest.mark.parametrize("plan", [lossy("bf16"), lossy("fp16")], ids=titled)
def test_halves_are_rounded_once_to_nearest(plan: LossyPlan) -> None:
    file = encoded(plan, MODEL)
    found = decoded(plan, file, LAYOUT)
    for name in ("a", "b", "half", "brain"):
        wide = to_floats(MODEL[name]).astype("f4")
        if plan.name == "fp16":
            assert (found[name] == wide.astype("f2").astype("f4")).all()
        else:
            assert (found[name] == to_floats(f32_to_bf16(wide).view(BFLOAT16))).all()


def test_formats_are_shared_between_the_files_of_a_round() -> None:
    plan = lossy("int8")
    assert format_of(plan, LAYOUT) is format_of(lossy("int8"), Layout.of(a_model(9)))
