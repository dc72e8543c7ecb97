"""Lengths and distances are sums over fixed cells, whoever measures which of them."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.aggregation import compiled, distances
from hansa_core.aggregation.distances import (
    BLOCK,
    cell_count,
    pairwise_parts,
    pairwise_squared_distances,
    pairwise_squared_distances_of,
    product_parts,
    products_of,
    products_with,
    squared_distance_parts,
    squared_distances,
    squared_distances_of,
)
from hansa_core.aggregation.inputs import Inputs
from tests.combines import ViewedBytes, opened
from tests.rules import a_model

Parts = Iterator[NDArray[np.float64]]
SITES = 7
FACTORS = [0.5, -1.0, 0.25, 0.0, 2.0, 1e-3, 0.125]


@pytest.fixture(params=["1", "0"], ids=["compiled", "numpy"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if request.param == "1":
        pytest.importorskip("numba")
    monkeypatch.setenv(compiled.SWITCH, request.param)


@pytest.fixture
def inputs(loops: None) -> Inputs:
    del loops
    return opened([a_model(k, 20 * BLOCK + 77) for k in range(SITES)], ViewedBytes)[0]


def measured(inputs: Inputs) -> list[NDArray[np.float64]]:
    return [
        squared_distances(inputs, FACTORS),
        pairwise_squared_distances(inputs),
        np.stack(products_with(inputs, 3)),
    ]


def split(inputs: Inputs, workers: int) -> list[NDArray[np.float64]]:
    """Return the same from parts that several workers measure, the last of them first."""
    cells = range(cell_count(inputs))
    ranges = [cells[len(cells) * w // workers : len(cells) * (w + 1) // workers]
              for w in range(workers)]  # fmt: skip

    def gathered(parts: Callable[[range], Parts]) -> Parts:
        found = {it: list(parts(it)) for it in reversed(ranges)}
        return (part for it in ranges for part in found[it])

    def squares(cells: range) -> Parts:
        return squared_distance_parts(inputs, FACTORS, cells)

    def pairs(cells: range) -> Parts:
        return pairwise_parts(inputs, cells)

    def products(cells: range) -> Parts:
        return product_parts(inputs, 3, cells)

    return [
        squared_distances_of(inputs, gathered(squares)),
        pairwise_squared_distances_of(inputs, gathered(pairs)),
        np.stack(products_of(inputs, gathered(products))),
    ]


@pytest.mark.parametrize("cell_blocks", [1, 2, 5, 7, 2**16])
def test_parts_of_any_workers_add_up_to_the_bits_of_one_pass(
    inputs: Inputs, cell_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(distances, "CELL_BLOCKS", cell_blocks)
    blocks = sum(-(-it.count // BLOCK) for it in inputs.sections if it.dtype.is_float)
    assert cell_count(inputs) == -(-blocks // cell_blocks)
    once = measured(inputs)
    for workers in (1, 2, 3, 30):
        for found, wanted in zip(split(inputs, workers), once, strict=True):
            assert np.array_equal(found, wanted)


def test_a_model_below_one_cell_is_one_sum_of_blocks(inputs: Inputs) -> None:
    # What the rules gave before there were cells: blocks of all sections, one after the other.
    total = 0.0
    for rows_kb in distances.float_rows(inputs):
        row = rows_kb[2] * rows_kb[2]
        for start in range(0, len(row), BLOCK):
            total += float(np.add.reduce(row[start : start + BLOCK]))
    assert products_with(inputs, 0)[0][2] == total
    assert squared_distances(inputs, [0.0] * SITES)[2] == total


@pytest.mark.usefixtures("loops")
def test_a_model_without_floats_has_no_cells() -> None:
    inputs = opened([{"n": np.array([k])} for k in range(3)])[0]
    assert cell_count(inputs) == 0
    assert pairwise_squared_distances(inputs).tolist() == np.zeros((3, 3)).tolist()
    assert squared_distances(inputs, [1.0, 0, 0]).tolist() == [0, 0, 0]


def test_products_agree_with_plain_ones(inputs: Inputs) -> None:
    rows = np.concatenate([it.copy() for it in distances.float_rows(inputs)], axis=1)
    squares, products = products_with(inputs, 4)
    assert squares == pytest.approx((rows**2).sum(axis=1), rel=1e-12)
    assert products == pytest.approx(rows @ rows[4], rel=1e-9, abs=1e-9 * float(squares.max()))
