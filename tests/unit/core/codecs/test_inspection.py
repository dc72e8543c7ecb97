"""What the inspector of encoded updates reports, and how early it refuses."""

import hashlib

import numpy as np
import pytest

from hansa_core.codecs.formats import HEADER_SIZE, bytes_of
from hansa_core.codecs.inspection import EncodedInspector, inspector_of
from hansa_core.codecs.plans import ExactPlan, LossyPlan
from hansa_core.inspection import Inspection, UpdateInspector
from hansa_core.layouts import Layout
from hansa_core.problems import RefusalReason, UpdateRefusedError
from tests.unit.core.codecs.samples import (
    LIMIT,
    LOSSY,
    a_model,
    decoded,
    encoded,
    inspected,
    lossy,
    titled,
)

MODEL = a_model()
LAYOUT = Layout.of(MODEL)

each_codec = pytest.mark.parametrize("plan", LOSSY, ids=titled)


@each_codec
def test_a_good_update_is_described(plan: LossyPlan) -> None:
    file = encoded(plan, MODEL)
    found = inspected(plan, LAYOUT, [file])
    assert isinstance(found, Inspection)
    assert (found.size, found.layout) == (len(file), LAYOUT)
    assert found.digest_hex == hashlib.sha256(file).hexdigest()
    floats = [array for array in decoded(plan, file, LAYOUT).values() if array.dtype.kind == "f"]
    squares = sum(float((array.astype("f8") ** 2).sum()) for array in floats)
    assert found.l2_norm == pytest.approx(squares**0.5, rel=1e-12)


@each_codec
def test_a_model_of_integers_alone_has_no_norm(plan: LossyPlan) -> None:
    model = {"steps": np.arange(9), "mask": np.array([True])}
    found = inspected(plan, Layout.of(model), [encoded(plan, dict(model))])
    assert isinstance(found, Inspection)
    assert found.l2_norm == 0


@each_codec
def test_an_update_without_tensors_is_its_header(plan: LossyPlan) -> None:
    file = encoded(plan, {})
    assert len(file) == HEADER_SIZE
    assert isinstance(inspected(plan, Layout(()), [file]), Inspection)
    trailing = inspected(plan, Layout(()), [file, b"x"])
    assert isinstance(trailing, tuple)
    assert trailing[0] is RefusalReason.TRAILING_BYTES


def test_the_header_alone_tells_of_another_model_or_one_too_large() -> None:
    plan = lossy("int8")
    head = encoded(plan, MODEL)[:HEADER_SIZE]
    other = Layout.of({"w": np.zeros(3, "f4")})
    for layout, limit, reason in (
        (other, LIMIT, RefusalReason.LAYOUT_MISMATCH),
        (LAYOUT, 100, RefusalReason.TOO_LARGE),
    ):
        inspector = inspector_of(plan, layout, limit)
        with pytest.raises(UpdateRefusedError) as caught:
            inspector.feed(head)
        assert caught.value.reason is reason


def test_a_refusal_is_repeated() -> None:
    plan = lossy("bf16")
    inspector = EncodedInspector(plan, LAYOUT, LIMIT)
    with pytest.raises(UpdateRefusedError) as first:
        inspector.feed(bytes(HEADER_SIZE))
    for again in (lambda: inspector.feed(encoded(plan, MODEL)), inspector.finish):
        with pytest.raises(UpdateRefusedError) as caught:
            again()
        assert caught.value is first.value


def test_exact_updates_are_inspected_as_before() -> None:
    inspector = inspector_of(ExactPlan(), LAYOUT, LIMIT)
    assert isinstance(inspector, UpdateInspector)
    inspector.feed(encoded(ExactPlan(), MODEL))
    assert inspector.finish().size == bytes_of(ExactPlan(), LAYOUT)


@pytest.mark.parametrize("index", [0, 255, 256, 4095, 4096, 8826])
def test_a_bad_block_is_named(index: int) -> None:
    plan = lossy("int8", block=16)
    file = bytearray(encoded(plan, {"w": np.ones((7, 1261), "f4")}))
    block = index // 16
    at = HEADER_SIZE + block * 20
    file[at : at + 4] = np.array(np.nan, "<f4").tobytes()
    found = inspected(plan, Layout.of({"w": np.ones((7, 1261), "f4")}), [bytes(file)])
    assert isinstance(found, tuple)
    count = min(16, 8827 - 16 * block)
    assert found[1].startswith(f"tensor 'w' block of {count} at element {16 * block} has the scale")
