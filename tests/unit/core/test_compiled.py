"""Compiled loops and numpy write the same bits; where compiled ones are kept, and when used."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.aggregation import compiled
from hansa_core.aggregation.bases import add_base
from hansa_core.aggregation.bulyan import bulyan
from hansa_core.aggregation.compiled.caches import FOLDER, cache_folder
from hansa_core.aggregation.distances import (
    BLOCK,
    pairwise_squared_distances,
    products_with,
    squared_distances,
)
from hansa_core.aggregation.inputs import Inputs, SectionFile
from hansa_core.aggregation.outputs import Combine, CombineOnto
from hansa_core.aggregation.ranks import MiddleMean
from hansa_core.aggregation.sums import WeightedSum
from hansa_core.aggregation.trust import trusted
from hansa_core.dtypes import BFLOAT16, DType, f32_to_bf16, widen
from hansa_core.tensors import bytes_reader, read_header
from tests.combines import ViewedBytes, delta_of, opened, same_bits
from tests.tensors import Tensors, encode

pytest.importorskip("numba")

SPECIAL = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, -np.nan, 6e-8, -6e-8, 65504.0, 1e-5])
SWITCHED = pytest.mark.parametrize("reader", [None, ViewedBytes], ids=["read", "viewed"])


@pytest.fixture(autouse=True, scope="module")
def warmed() -> None:
    assert compiled.warm()


def a_model(seed: int, elements: int = 3 * BLOCK + 77, special: float = 0.0) -> Tensors:
    """Return floats of every width and some integers; a share of them special values."""
    rng = np.random.default_rng(seed)

    def some(count: int) -> NDArray[np.float64]:
        values = rng.standard_normal(count) * 10.0 ** rng.integers(-4, 4, count)
        values = np.where(rng.random(count) < 0.2, np.rint(rng.standard_normal(count)), values)
        return np.where(rng.random(count) < special, rng.choice(SPECIAL, count), values)

    return {
        "d": some(elements // 2),
        "w": some(elements).astype("f4"),
        "h": np.clip(some(elements), -6e4, 6e4).astype("f2"),
        "b": f32_to_bf16(some(elements // 3).astype("f4")).view(BFLOAT16),
        "n": rng.integers(-(2**62), 2**62, 9),
        "m": rng.integers(0, 2, 5).astype(bool),
    }


def both(monkeypatch: pytest.MonkeyPatch, work: Callable[[], Any]) -> tuple[Any, Any]:
    """Return what compiled loops and what numpy make."""
    made: list[Any] = []
    for switch in ("1", "0"):
        monkeypatch.setenv(compiled.SWITCH, switch)
        made.append(work())
    return made[0], made[1]


def weighted(inputs: Inputs) -> Combine:
    factors = [0.3, 1.0, 0.0, -2.5e-7, *[7.0] * 96][: len(inputs.files)]
    return WeightedSum(inputs, factors, 3.7, tile_bytes=4096)


def middle(trim: int) -> Callable[[Inputs], Combine]:
    return lambda inputs: MiddleMean(inputs, min(trim, (len(inputs.files) - 1) // 2))


ELEMENTWISE = {"sum": weighted, "median": middle(999), "trimmed": middle(2), "mean": middle(0)}


@SWITCHED
@pytest.mark.parametrize("sites", [1, 2, 3, 10, 33, 50])
@pytest.mark.parametrize("rule", ELEMENTWISE)
def test_elementwise_rules_give_the_same_bits_by_both(
    rule: str, sites: int, reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltas = [a_model(k, 1500, 0.05) for k in range(sites)]
    inputs, _ = opened(deltas, reader) if reader else opened(deltas)
    fast, slow = both(monkeypatch, lambda: delta_of(ELEMENTWISE[rule](inputs), inputs, 1031))
    assert same_bits(fast, slow)


@SWITCHED
@pytest.mark.parametrize("sites", [1, 2, 3, 5, 6, 7, 9, 10, 11, 50])
def test_lengths_and_distances_are_the_same_by_both(
    sites: int, reader: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    deltas = [a_model(k) for k in range(sites)]
    inputs, _ = opened(deltas, reader) if reader else opened(deltas)
    factors = np.random.default_rng(0).standard_normal(sites).tolist()
    for work in (
        lambda: squared_distances(inputs, [0.0] * sites),
        lambda: squared_distances(inputs, factors),
        lambda: pairwise_squared_distances(inputs),
        lambda: np.stack(products_with(inputs, sites // 2)),
    ):
        fast, slow = both(monkeypatch, work)
        assert np.array_equal(fast, slow)


@pytest.mark.parametrize(("sites", "byzantine"), [(3, 0), (7, 1), (8, 1), (15, 3), (50, 11)])
def test_bulyan_gives_the_same_bits_by_both(
    sites: int, byzantine: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    inputs, _ = opened([a_model(k, 1500) for k in range(sites)])
    fast, slow = both(
        monkeypatch,
        lambda: delta_of(bulyan(inputs, byzantine=byzantine, tile_bytes=1), inputs, 1031),
    )
    assert same_bits(fast, slow)


@pytest.mark.parametrize("dtype", [DType.F64, DType.F32, DType.BF16, DType.F16])
def test_a_base_is_added_to_the_same_bits_by_both(
    dtype: DType, monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(8)
    patterns = rng.integers(0, 256, 40_000 * dtype.itemsize).astype(np.uint8)  # all sorts of floats
    values: NDArray[np.float64] = np.empty(40_000)
    with np.errstate(all="ignore"):
        widen(patterns, dtype, values)
    ties = np.concatenate([2.0**-8 + 2.0 ** -np.arange(9.0, 60.0), [3.4e38, 3.3895e38, 65519.9]])
    deltas = rng.choice(np.concatenate([SPECIAL, ties, -ties]), len(values))
    with np.errstate(all="ignore"):
        deltas[::2] = values[rng.permutation(len(values))][::2] * rng.choice([1e-3, 1.0], 20_000)

    def work() -> tuple[bool, NDArray[np.uint8]]:
        out = np.zeros_like(patterns)
        with np.errstate(all="ignore"):
            finite = add_base(patterns, dtype, deltas.copy(), np.empty(len(deltas)), out)
        return finite, out

    (fast, fast_out), (slow, slow_out) = both(monkeypatch, work)
    assert fast is slow is False
    made = np.empty((2, len(values)))
    widen(fast_out, dtype, made[0])
    widen(slow_out, dtype, made[1])
    assert same_bits([made[0]], [made[1]])
    fine = np.flatnonzero(np.isfinite(made[1]))
    patterns = patterns.reshape(len(values), -1)[fine].reshape(-1)
    deltas = deltas[fine]
    (fast, fast_out), (slow, slow_out) = both(monkeypatch, work)
    assert fast is slow is True
    assert np.array_equal(fast_out, slow_out)


def onto(inputs: Inputs, base: Tensors, tile: int) -> tuple[Tensors, list[bool]]:
    """Return base + weighted sum of every section that is added in one go; what was finite."""
    file = encode(base)
    base_file = SectionFile(read_header(bytes_reader(file)), inputs.sections, ViewedBytes(file))
    combine, found, finite = weighted(inputs), dict[str, NDArray[Any]](), list[bool]()
    assert isinstance(combine, CombineOnto)
    for section in inputs.sections:
        size = section.dtype.itemsize
        out = np.zeros(section.count * size, np.uint8)
        for start in range(0, section.count, tile):
            part = out[start * size : (start + tile) * size]
            answer = combine.onto(base_file, section, start, part)
            if answer is None:
                assert section.dtype not in {DType.F64, DType.F32, DType.BF16}
            else:
                found[section.dtype.value] = out
                finite.append(answer)
    return found, finite


@SWITCHED
@pytest.mark.parametrize("tile", [700, 10_000])
@pytest.mark.parametrize("sites", [1, 2, 5, 10])
def test_a_sum_and_the_base_in_one_go_are_the_bits_of_one_after_the_other(
    sites: int, tile: int, reader: Any
) -> None:
    deltas = [a_model(k) for k in range(sites)]
    inputs, _ = opened(deltas, reader) if reader else opened(deltas)
    base = a_model(99)
    found, finite = onto(inputs, base, tile)
    assert set(found) == {"F64", "F32", "BF16"}
    assert all(finite)
    for section, delta_t in zip(inputs.sections, delta_of(weighted(inputs), inputs), strict=True):
        if section.dtype.value in found:
            raw = base[section.tensors[0].name].view(np.uint8)
            out = np.zeros_like(raw)
            assert add_base(raw, section.dtype, delta_t, np.empty_like(delta_t), out)
            assert np.array_equal(found[section.dtype.value], out)


@pytest.mark.parametrize("value", [np.inf, np.nan])
def test_a_sum_onto_the_base_that_is_not_finite_is_told(value: float) -> None:
    delta = a_model(0)
    delta["w"][2000] = value
    inputs, _ = opened([delta, a_model(1)])
    _, finite = onto(inputs, a_model(2), 10_000)
    assert sorted(finite) == [False, True, True]


def test_trust_gives_the_same_bits_by_both(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, _ = opened([a_model(k) for k in range(9)])
    fast, slow = both(
        monkeypatch, lambda: delta_of(trusted(inputs, root=4, tile_bytes=4096), inputs)
    )
    assert same_bits(fast, slow)


def test_a_file_is_looked_at_once_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hansa_core.aggregation.readers.WINDOW_BYTES", 0)  # the least windows
    monkeypatch.setattr("hansa_core.aggregation.readers.LEAST_WINDOW", 4096)
    files: list[ViewedBytes] = []

    def reader(file: bytes) -> ViewedBytes:
        files.append(ViewedBytes(file))
        return files[-1]

    deltas = [{"w": np.random.default_rng(k).standard_normal(9000).astype("f4")} for k in range(3)]
    inputs, _ = opened(deltas, reader)
    fast, slow = both(monkeypatch, lambda: delta_of(middle(1)(inputs), inputs, 1000))
    assert same_bits(fast, slow)
    assert [file.viewed for file in files] == [2 * 36_000] * 3


def test_importing_the_rules_does_not_import_numba() -> None:
    code = "import sys, hansa_core.aggregation.jobs; sys.exit('numba' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)  # noqa: S603 -- ours


# Switches and caches


def test_the_environment_has_the_last_word(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(compiled.SWITCH, "0")
    assert not compiled.usable()
    assert not compiled.warm()
    monkeypatch.delenv(compiled.SWITCH)
    assert compiled.usable()


def test_loops_are_kept_where_nobody_else_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path / "mine"))
    folder = cache_folder()
    assert folder is not None
    assert folder.is_relative_to(tmp_path / "mine")
    assert folder.stat().st_mode & 0o777 == 0o700
    assert cache_folder() == folder
    folder.chmod(0o770)
    assert cache_folder() is None


def test_a_link_in_place_of_the_folder_is_not_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    folder = cache_folder()
    assert folder is not None
    folder.rmdir()
    (tmp_path / "theirs").mkdir(mode=0o700)
    folder.symlink_to(tmp_path / "theirs")
    assert cache_folder() is None


def test_without_a_folder_loops_are_compiled_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    code = (
        "from hansa_core.aggregation.compiled import usable, loops\n"
        "import numpy as np\n"
        "out = np.ones(3)\n"
        "row = np.array([1.0, 2.0, 4.0])\n"
        "at = np.array([row.ctypes.data], np.uint64)\n"
        "no = np.zeros(1, np.int64)\n"
        "loops.weighted_sum(no, no, at, no, np.full(1, 2.0), 4.0, out)\n"
        "assert out.tolist() == [0.5, 1.0, 2.0], out\n"
    )
    environment = {**os.environ, FOLDER: str(tmp_path / "file" / "below")}
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120, env=environment)  # noqa: S603 -- ours
