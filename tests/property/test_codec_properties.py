"""Any delta: how much a codec may lose, any part of a file, and any cut of it on its way."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from hansa_core.codecs.blocks import MIN_SCALE
from hansa_core.codecs.files import EncodedFile
from hansa_core.codecs.formats import bytes_of
from hansa_core.codecs.plans import LossyPlan, SparsePlan
from hansa_core.codecs.shuffle import compress, decompress
from hansa_core.inspection import Inspection
from hansa_core.layouts import Layout
from hansa_core.tensors import bytes_reader
from tests.unit.core.codecs.reference import plain_decode, plain_kept
from tests.unit.core.codecs.samples import (
    LOSSY,
    SPARSE,
    Tensors,
    decoded,
    encoded,
    in_a_row,
    inspected,
    lossy,
    part,
    sections_of,
    sparse,
)

BRIEF = settings(max_examples=60, deadline=None)  # a busy machine is no failure

# Up to 1e4 every codec holds them; subnormals and zeros are in there.
VALUES = st.floats(-1e4, 1e4, width=32)
DTYPES = st.sampled_from(["f4", "f4", "f4", "f8", "f2", "i8", "u1", "?"])


@st.composite
def deltas(draw: st.DrawFn) -> Tensors:
    """Draw up to four tensors, some longer than a chunk."""
    delta: Tensors = {}
    for name in draw(st.lists(st.text("abcd", min_size=1, max_size=3), max_size=4, unique=True)):
        rng = np.random.default_rng(draw(st.integers(0, 2**32)))
        count = draw(st.integers(0, 40) | st.sampled_from([64, 255, 257, 4096, 4100, 9000]))
        scale = draw(st.sampled_from([1e-30, 1e-6, 1.0, 1e3]))
        shape = draw(st.sampled_from([(count,), (1, count), (count, 1)]))
        values = rng.standard_normal(shape) * scale
        dtype = np.dtype(draw(DTYPES))
        delta[name] = (
            values.astype(dtype)
            if dtype.kind == "f"
            else np.asarray(rng.integers(0, 2, shape)).astype(dtype)
        )
    return delta


def vectors() -> st.SearchStrategy[NDArray[np.float32]]:
    """Draw values one by one, with many ties and zeros among them."""
    return hnp.arrays("<f4", st.integers(1, 200), elements=VALUES | st.sampled_from([0, 1, -1, 2]))


def roundtrip(plan: LossyPlan, values: NDArray[np.float32]) -> NDArray[np.float64]:
    tensors: Tensors = {"w": values[:, None]}  # a matrix: vectors stay whole
    return decoded(plan, encoded(plan, tensors), Layout.of(tensors))["w"][:, 0].astype("f8")


@BRIEF
@given(vectors(), st.sampled_from(["int8", "int4"]), st.sampled_from([16, 64, 256]))
def test_blocks_err_by_half_a_step(values: NDArray[np.float32], name: str, block: int) -> None:
    error = np.abs(roundtrip(lossy(name, block=block), values) - values)
    for start in range(0, len(values), block):
        piece = values[start : start + block].astype("f8")
        step = np.abs(piece).max() / (127 if name == "int8" else 7)
        bound = step / 2 * (1 + 1e-5) if step > 2 * MIN_SCALE else 130 * MIN_SCALE
        assert error[start : start + block].max() <= bound


@BRIEF
@given(vectors(), st.sampled_from(["int8", "int4"]), st.integers(0, 2**32))
def test_stochastic_blocks_err_by_less_than_a_step(
    values: NDArray[np.float32], name: str, seed: int
) -> None:
    plan = lossy(name, rounding="stochastic", block=256)
    tensors: Tensors = {"w": values[:, None]}
    found = decoded(plan, encoded(plan, tensors, seed=seed), Layout.of(tensors))["w"][:, 0]
    step = float(np.abs(values).max()) / (127 if name == "int8" else 7)
    bound = step * (1 + 1e-5) if step > 2 * MIN_SCALE else 130 * MIN_SCALE
    assert np.abs(found.astype("f8") - values).max() <= bound


@BRIEF
@given(vectors())
def test_halves_err_by_half_their_last_bit(values: NDArray[np.float32]) -> None:
    wide = np.abs(values.astype("f8"))
    bf16 = np.abs(roundtrip(lossy("bf16"), values) - values)
    assert (bf16 <= np.maximum(wide * 2.0**-8, 2.0**-134)).all()
    fp16 = np.abs(roundtrip(lossy("fp16"), values) - values)
    assert (fp16 <= np.maximum(wide * 2.0**-11, 2.0**-25)).all()


@BRIEF
@given(vectors(), st.sampled_from(SPARSE))
def test_the_greatest_values_are_sent(values: NDArray[np.float32], plan: SparsePlan) -> None:
    kept = plain_kept(len(values), plan)
    found = roundtrip(plan, values)
    sent = found != 0
    assert np.count_nonzero(sent) <= kept
    sizes = np.sort(np.abs(values))[::-1]
    # What was not sent is not above what was, but for values that a half or two bits make zero:
    # where zeros were sent one magnitude is 0, and values up to half the other are closer to it.
    threshold = sizes[kept - 1]
    two_bits = plan.name == "sparse2" and threshold == 0
    rounded_off = sizes[0] * (0.5 + 2.0**-8) if two_bits else 2.0**-25
    assert (np.abs(values[~sent]) <= max(threshold, rounded_off)).all()
    assert (np.abs(values[sent]) >= threshold).all()
    assert (np.sign(found[sent]) == np.sign(values[sent])).all()


@BRIEF
@given(vectors(), st.sampled_from([0.05, 0.5, 1.0]))
def test_top_k_shrinks_the_rest_as_the_theory_of_error_feedback_asks(
    values: NDArray[np.float32], fraction: float
) -> None:
    """|x - C(x)|^2 <= (1 - k/n) |x|^2, but for what bfloat16 rounds off the values sent."""
    plan = sparse("topk", fraction=fraction)
    kept = plain_kept(len(values), plan)
    wide = values.astype("f8")
    left = ((wide - roundtrip(plan, values)) ** 2).sum()
    assert left <= (1 - kept / len(values) + 2.0**-15) * (wide**2).sum() + 1e-60


@BRIEF
@given(vectors(), st.sampled_from([0.05, 0.5, 1.0]))
def test_two_levels_are_not_worse_than_one(values: NDArray[np.float32], fraction: float) -> None:
    plan = sparse("sparse2", fraction=fraction)
    kept = plain_kept(len(values), plan)
    found = roundtrip(plan, values)
    order = np.argsort(-np.abs(values), kind="stable")[:kept]
    sizes = np.abs(values[order].astype("f8"))
    one_level = ((sizes - sizes.mean()) ** 2).sum()
    two_levels = ((sizes - np.abs(found[order])) ** 2).sum()
    rounding = (sizes.max() * 2.0**-7) ** 2 * kept  # of the levels, to bfloat16
    assert two_levels <= (np.sqrt(one_level) + np.sqrt(rounding)) ** 2 + 1e-70


@BRIEF
@given(deltas(), st.sampled_from(LOSSY), st.data())
def test_any_part_is_that_part_of_the_whole(
    delta: Tensors, plan: LossyPlan, data: st.DataObject
) -> None:
    layout = Layout.of(delta)
    file = encoded(plan, delta)
    assert len(file) == bytes_of(plan, layout)
    tensors = decoded(plan, file, layout)
    plain = plain_decode(file, layout, plan)
    assert {name: it.tobytes() for name, it in plain.items()} == {
        name: it.tobytes() for name, it in tensors.items()
    }
    opened = EncodedFile(bytes_reader(file), layout, plan)
    for section in sections_of(layout):
        start = data.draw(st.integers(0, section.count - 1))
        count = data.draw(st.integers(0, section.count - start))
        size = opened.dtype(section).itemsize
        wanted = in_a_row(tensors, section)[start * size : (start + count) * size]
        assert part(opened, section, start, count) == wanted


@BRIEF
@given(deltas(), st.sampled_from(LOSSY), st.lists(st.integers(0, 30_000), max_size=20), st.data())
def test_the_verdict_does_not_depend_on_the_cuts(
    delta: Tensors, plan: LossyPlan, cuts: list[int], data: st.DataObject
) -> None:
    layout = Layout.of(delta)
    file = bytearray(encoded(plan, delta))
    if data.draw(st.booleans()):
        file[data.draw(st.integers(0, len(file) - 1))] ^= data.draw(st.integers(1, 255))
    if data.draw(st.booleans()):
        file = file[: data.draw(st.integers(0, len(file)))]
    if data.draw(st.booleans()):
        file += bytes(data.draw(st.integers(0, 3)))
    whole = inspected(plan, layout, [bytes(file)])
    view = memoryview(bytes(file))
    marks = [0, *sorted(cut % (len(file) + 1) for cut in cuts), len(file)]
    pieces = [view[start:stop] for start, stop in pairwise(marks)]
    bytewise = [view[at : at + 1] for at in range(min(len(file), 600))] + [view[600:]]
    for other in (inspected(plan, layout, pieces), inspected(plan, layout, bytewise)):
        if isinstance(whole, Inspection):
            assert isinstance(other, Inspection)
            assert (other.size, other.digest_hex) == (whole.size, whole.digest_hex)
            assert other.l2_norm == pytest.approx(whole.l2_norm, rel=1e-12)
        else:
            assert other == whole


@BRIEF
@given(st.binary(max_size=3000), st.sampled_from([1, 2, 4, 8]), st.integers(1, 50))
def test_a_compressed_chunk_comes_back(chunk: bytes, itemsize: int, times: int) -> None:
    repeated = chunk * times
    data = compress(repeated, itemsize)
    if data is not None:
        assert len(data) <= 0.95 * len(repeated)
        assert decompress(data, size=len(repeated)) == repeated
