"""Sums that decode what they add have the bits of sums over what was decoded before."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from hansa_core.aggregation import compiled
from hansa_core.aggregation.inputs import Contribution, Inputs, Source
from hansa_core.aggregation.sums import WeightedSum
from hansa_core.codecs.files import EncodedFile
from hansa_core.codecs.plans import LossyPlan
from hansa_core.layouts import Layout
from hansa_core.tensors import ReadAt, bytes_reader
from tests.combines import ViewedBytes, delta_of, same_bits
from tests.unit.core.codecs.samples import LOSSY, Tensors, encoded, lossy, sections_of, titled

pytest.importorskip("numba")

FUSED = {"bf16", "fp16", "int8", "int4"}
FACTORS = (3.0, 1.0, -2.5e-7, 0.3, 7.0, 1e9, 0.1)  # of the first, of four together, of the rest
Bits = list[np.ndarray]


def a_model(seed: int) -> Tensors:
    """Return tensors that end within a record, some within the first; vectors, and integers."""
    rng = np.random.default_rng(seed)
    shapes = {"a": (37, 71), "b": (1, 5), "c": (16, 16), "d": (3, 3), "e": (512, 7), "v": (29,)}
    made: Tensors = {
        name: (rng.standard_normal(shape) * 10.0 ** rng.integers(-9, 3, shape)).astype("f4")
        for name, shape in shapes.items()
    }
    made["c"][:] = -0.0  # adding it to zeros would lose the signs
    return {**made, "half": rng.standard_normal((9, 31)).astype("f2"), "n": rng.integers(0, 9, 3)}


def inputs_of(plans: Sequence[LossyPlan], reader: Callable[[bytes], ReadAt]) -> Inputs:
    """Return updates, each by a plan of its own."""
    layout = Layout.of(a_model(0))
    reads = [reader(encoded(plan, a_model(site))) for site, plan in enumerate(plans)]
    pairs = zip(reads, plans, strict=True)
    return Inputs(
        Source("base", bytes_reader(b"")),
        tuple(Contribution(f"{site:064x}", 1, read) for site, read in enumerate(reads)),
        tuple(sections_of(layout)),
        tuple(EncodedFile(read, layout, plan) for read, plan in pairs),
    )


def summed(inputs: Inputs, tile: int) -> Bits:
    factors = FACTORS[: len(inputs.files)]
    return delta_of(WeightedSum(inputs, factors, 3.7, tile_bytes=4096), inputs, tile)


MIXED = [lossy("int8", block=32), *LOSSY[:6]]


@pytest.mark.parametrize("window", [64, 4 << 20])
@pytest.mark.parametrize("tile", [113, 4000])  # elements; the loop takes 512 at a time
@pytest.mark.parametrize(
    "plans", [*([plan] * 7 for plan in LOSSY), MIXED], ids=[*map(titled, LOSSY), "mixed"]
)
def test_fused_sums_are_those_of_what_was_decoded(
    plans: list[LossyPlan], tile: int, window: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hansa_core.aggregation.readers.MOST_WINDOW", window)
    monkeypatch.setattr("hansa_core.aggregation.readers.LEAST_WINDOW", 1)
    views: list[ViewedBytes] = []

    def viewed(file: bytes) -> ViewedBytes:
        views.append(ViewedBytes(file))
        return views[-1]

    fused = summed(inputs_of(plans, viewed), tile)
    used = [view.viewed > 0 for view in views]
    assert used == [plan.name in FUSED for plan in plans]
    decoded = summed(inputs_of(plans, bytes_reader), tile)
    assert same_bits(fused, decoded)
    monkeypatch.setenv(compiled.SWITCH, "0")
    assert same_bits(fused, summed(inputs_of(plans, viewed), 4000))


@pytest.mark.parametrize("sites", [1, 2, 4, 5, 6])
def test_any_number_of_updates_is_added_in_order(
    sites: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans = [lossy("int8", block=16)] * sites
    fused = summed(inputs_of(plans, ViewedBytes), 700)
    monkeypatch.setenv(compiled.SWITCH, "0")
    assert same_bits(fused, summed(inputs_of(plans, ViewedBytes), 700))


@pytest.mark.parametrize("plan", [plan for plan in LOSSY if plan.name in FUSED], ids=titled)
def test_a_stretch_has_no_more_bytes_than_its_records(plan: LossyPlan) -> None:
    layout = Layout.of(a_model(0))
    file = EncodedFile(ViewedBytes(encoded(plan, a_model(0))), layout, plan)
    for section in sections_of(layout):
        if not section.dtype.is_float:
            assert file.stretch(section, 0, 100) is None
            continue
        at = 0
        while at < section.count:
            found = file.stretch(section, at, 100)
            assert found is not None
            assert found.count > 0
            assert len(found.data) <= 100 or found.skipped + found.count <= found.block
            at += found.count
        assert at == section.count
