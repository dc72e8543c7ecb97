"""Where everything of an update lies in its vector."""

import numpy as np
import pytest

from hansa_core.aggregation.inputs import part_layout
from hansa_core.canonical import canonical_json
from hansa_core.layouts import Layout
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.packing import Packing
from hansa_core.secagg.vectors import VectorLayout, check_ranges, vector_layout
from tests.unit.core.secagg.quantised import a_model

UPLOADED = Layout.of(a_model())
PART = part_layout(UPLOADED)


def a_layout(sites: int = 10) -> VectorLayout:
    return vector_layout(
        UPLOADED,
        {"control": PART},
        ["normaliser"],
        ["loss"],
        ["loss", "accuracy"],
        Packing(3, sites),
    )


def test_sections_follow_each_other() -> None:
    layout = a_layout()
    floats = [it for it in UPLOADED.tensors if it.dtype.is_float]
    integers = [it for it in UPLOADED.tensors if not it.dtype.is_float]
    assert layout.float_tensors == (
        *(it.name for it in floats),
        *(f"control/{it.name}" for it in PART.tensors),
    )
    count = sum(it.count for it in floats)
    assert layout.elements == 2 * count
    assert layout.integers_at == layout.packing.words(2 * count)
    assert layout.statistics_at - layout.integers_at == sum(it.count for it in integers)
    assert layout.totals_at - layout.statistics_at == 2 * 2 * len(floats)
    assert layout.scalars_at - layout.totals_at == 3
    assert layout.metrics_at - layout.scalars_at == 2
    assert layout.words - layout.metrics_at == 6
    assert layout.metrics == ("train/loss", "eval/loss", "eval/accuracy")


def test_an_evaluation_is_totals_and_metrics() -> None:
    layout = vector_layout(Layout(()), {}, [], [], ["loss", "accuracy"], Packing(3, 10))
    assert (layout.totals_at, layout.words) == (0, 3 + 2 * 2)
    assert layout.float_tensors == ()


def test_pieces_are_all_elements_once() -> None:
    layout = a_layout()
    for step in (1000, 12_288, layout.elements):
        seen = {slot.name: np.zeros(slot.tensor.count, int) for slot in layout.floats}
        for begin in range(0, layout.elements, step):
            at = begin
            for piece in layout.float_pieces(begin, min(begin + step, layout.elements)):
                assert piece.slot.start + piece.start == at
                seen[piece.slot.name][piece.start : piece.start + piece.count] += 1
                at += piece.count
            assert at == min(begin + step, layout.elements)
        assert all((counts == 1).all() for counts in seen.values())


def test_layouts_say_what_decides_them() -> None:
    assert canonical_json(a_layout().to_json()) == canonical_json(a_layout().to_json())
    others = [
        a_layout(11),
        vector_layout(UPLOADED, {}, ["normaliser"], ["loss"], ["loss"], Packing(3, 10)),
        vector_layout(UPLOADED, {"control": PART}, [], ["loss"], ["loss"], Packing(3, 10)),
        vector_layout(UPLOADED, {"control": PART}, [], ["f1"], ["loss"], Packing(3, 10)),
        vector_layout(UPLOADED, {"control": PART}, [], ["f1"], ["loss"], Packing(4, 10)),
    ]
    said = {canonical_json(it.to_json()) for it in [a_layout(), *others]}
    assert len(said) == 1 + len(others)


@pytest.mark.parametrize(
    ("sites", "integers", "values"),
    [(10, 20, 32), (1024, 20, 32), (1025, 20, 31), (10_000, 18, 28)],
)
def test_fractions_leave_room_for_all_sites(sites: int, integers: int, values: int) -> None:
    layout = a_layout(sites)
    assert (layout.integer_fraction, layout.value_fraction) == (integers, values)
    assert sites * 2**30 * 2**integers < 2**63
    assert sites * 2**20 * 2**values < 2**63
    for slot in layout.floats:
        assert sites * slot.tensor.count << layout.square_fraction(slot) <= 2**62


def test_other_parts_and_repeated_names_are_refused() -> None:
    packing = Packing(3, 10)
    with pytest.raises(SecaggError, match="part 'dual', wanted 'control' or none"):
        vector_layout(UPLOADED, {"dual": PART}, [], [], [], packing)
    with pytest.raises(SecaggError, match="part 'control': the tensors differ: 'brain' is BF16"):
        vector_layout(UPLOADED, {"control": UPLOADED}, [], [], [], packing)
    with pytest.raises(SecaggError, match="wanted each name once"):
        vector_layout(UPLOADED, {}, [], ["loss", "loss"], [], packing)


def test_ranges_are_one_for_each_float() -> None:
    layout = a_layout()
    good = [1.0] * len(layout.floats)
    check_ranges(layout, good)
    with pytest.raises(SecaggError, match=f"there are 3 ranges, wanted {len(good)}"):
        check_ranges(layout, good[:3])
    for bad in (0.0, -1.0, float("nan"), float("inf")):
        ranges = good.copy()
        ranges[layout.float_tensors.index("control/brain")] = bad
        with pytest.raises(SecaggError, match=f"the range of 'control/brain' is {bad!r}, wanted"):
            check_ranges(layout, ranges)
