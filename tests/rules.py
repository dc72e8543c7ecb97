"""The aggregation rules over files in memory, and plain float64 implementations to compare with."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.aggregation import jobs
from hansa_core.aggregation.distances import BLOCK
from hansa_core.aggregation.inputs import Contribution, Inputs, Source
from hansa_core.aggregation.jobs import AggregateSummary, Job, Sinks
from hansa_core.aggregation.outputs import TILE_BYTES
from hansa_core.dtypes import BFLOAT16, bf16_to_f32, f32_to_bf16
from hansa_core.plans import parse_plan
from hansa_core.strategies import FedAvgPlan, Strategy
from hansa_core.tensor_groups import SHARED
from hansa_core.tensors import Sink, bytes_reader
from tests.tensors import Tensors, decode, digest_of, encode

Vector = NDArray[np.float64]

STRATEGIES: tuple[dict[str, Any], ...] = (
    {"name": "fedavg"},
    {"name": "median"},
    {"name": "trimmed-mean", "trim": 0.2},
    {"name": "krum", "byzantine": 1},
    {"name": "multi-krum", "byzantine": 1, "keep": 2},
    {"name": "geometric-median", "iterations": 4, "smoothing": 1e-6},
    {"name": "centred-clipping", "radius": 1.5, "iterations": 3},
    {"name": "norm-clipping", "bound": 1.5},
)
NAMED = pytest.mark.parametrize("section", STRATEGIES, ids=lambda it: it["name"])
ROBUST = [section for section in STRATEGIES if section["name"] not in {"fedavg", "norm-clipping"}]
MEASURED = [it for it in STRATEGIES if it["name"] not in {"fedavg", "median", "trimmed-mean"}]


def a_model(seed: int, elements: int = 3 * BLOCK + 17) -> Tensors:
    """Return tensors of every float width and some that are no floats."""
    rng = np.random.default_rng(seed)
    narrow = rng.standard_normal(33).astype("f4")
    return {
        "w": rng.standard_normal((elements, 1)).astype("f4"),
        "d": rng.standard_normal(5),
        "h": rng.standard_normal(41).astype("f2"),
        "b": f32_to_bf16(narrow).view(BFLOAT16),
        "steps": rng.integers(-50, 50, ()),
        "table": rng.integers(-50, 50, 7).astype("i4"),
        "bytes": rng.integers(0, 9, 3).astype("u1"),
        "mask": rng.integers(0, 2, 5).astype(bool),
    }


FLOATS = ("d", "w", "b", "h")  # in canonical order


def floats(tensors: Tensors) -> NDArray[np.float64]:
    return np.concatenate([wide(tensors[name]) for name in FLOATS])


def of(vector: Any) -> Tensors:
    return {"w": np.asarray(vector, "f4")}


def strategy(section: dict[str, Any], sites: int = 100) -> Strategy:
    """Return a plan's strategy."""
    cohort = {"min_sites": sites}
    document = {"name": "x", "model": "x", "rounds": 1, "cohort": cohort, "strategy": section}
    return parse_plan(document).strategy


def contribution(delta: Tensors | bytes, weight: int = 1, scale: float = 1.0) -> Contribution:
    """Return an update as the aggregator takes it."""
    file = delta if isinstance(delta, bytes) else encode(delta)
    return Contribution(digest_of(file), weight, bytes_reader(file), scale)


def aggregate(
    strategy: Strategy,
    base: Source,
    contributions: Sequence[Contribution],
    sink: Sink,
    *,
    tile_bytes: int = TILE_BYTES,
) -> AggregateSummary:
    """Write the next checkpoint of a round that has nothing but updates."""
    return jobs.aggregate(strategy, Job(base, contributions), Sinks(sink), tile_bytes=tile_bytes)


def weighted_mean(
    base: Source, contributions: Sequence[Contribution], sink: Sink, **options: Any
) -> AggregateSummary:
    """Write what fedavg makes of the updates."""
    return aggregate(FedAvgPlan(), base, contributions, sink, **options)


def inputs_of(base: Source, contributions: Sequence[Contribution]) -> Inputs:
    """Return what a rule reads."""
    return jobs.open_job(FedAvgPlan(), Job(base, contributions)).groups[SHARED]


def combine(
    section: dict[str, Any],
    base: Tensors,
    contributions: Sequence[Contribution],
    *,
    tile_bytes: int = TILE_BYTES,
) -> bytes:
    """Return the checkpoint's file."""
    file, out = encode(base), bytearray()
    source = Source(digest_of(file), bytes_reader(file))
    aggregate(strategy(section), source, contributions, out.extend, tile_bytes=tile_bytes)
    return bytes(out)


def combined(
    section: dict[str, Any], base: Tensors, deltas: Sequence[Tensors], **options: Any
) -> Tensors:
    """Return the checkpoint's tensors; every site has trained on one example."""
    return decode(combine(section, base, [contribution(it) for it in deltas], **options))


def wide(array: NDArray[Any]) -> Vector:
    """Return values as a float64 vector."""
    stored = bf16_to_f32(array) if array.dtype == BFLOAT16 else array
    return stored.astype(np.float64).reshape(-1)


def plain(
    section: dict[str, Any], deltas: Sequence[Vector], weights: Sequence[float] | None = None
) -> Vector:
    """Return the combined delta of vectors by the textbook, in float64."""
    rows = np.stack(deltas)
    n_k = np.ones(len(rows)) if weights is None else np.asarray(weights, np.float64)
    name = section["name"]
    if name == "median":
        made = np.median(rows, axis=0)
    elif name == "trimmed-mean":
        off = int(section["trim"] * len(rows) + 1e-6)
        made = np.sort(rows, axis=0)[off : len(rows) - off].mean(axis=0)
    elif name in {"krum", "multi-krum"}:
        kept = plain_krum(rows, section["byzantine"], section.get("keep", 1))
        made = rows[kept].mean(axis=0)
    elif name == "geometric-median":
        made = _plain_geometric_median(rows, section["iterations"], section["smoothing"])
    elif name == "centred-clipping":
        made = _plain_centred_clipping(rows, section["iterations"], section["radius"])
    else:
        lengths = np.maximum(np.linalg.norm(rows, axis=1), 1e-300)
        factors = np.minimum(1, section.get("bound", np.inf) / lengths)
        made = (rows * (n_k * factors)[:, None]).sum(axis=0) / n_k.sum()
    return made


def plain_krum(rows: NDArray[np.float64], byzantine: int, keep: int) -> list[int]:
    """Return the indexes of the updates that multi-Krum keeps."""
    scores: list[float] = []
    for one in rows:
        squares = sorted(math.fsum(((one - other) ** 2).tolist()) for other in rows)
        scores.append(math.fsum(squares[1 : len(rows) - byzantine - 1]))  # [0] is to itself
    return sorted(range(len(rows)), key=scores.__getitem__)[:keep]


def _plain_geometric_median(rows: NDArray[np.float64], iterations: int, smoothing: float) -> Vector:
    centre = np.zeros(rows.shape[1])
    for _ in range(iterations):
        pulls = 1 / np.maximum(smoothing, np.linalg.norm(rows - centre, axis=1))
        centre = (rows * (pulls / pulls.sum())[:, None]).sum(axis=0)
    return centre


def _plain_centred_clipping(rows: NDArray[np.float64], iterations: int, radius: float) -> Vector:
    centre = np.zeros(rows.shape[1])
    for _ in range(iterations):
        apart = rows - centre
        lengths = np.maximum(np.linalg.norm(apart, axis=1), 1e-300)
        centre = centre + (apart * np.minimum(1, radius / lengths)[:, None]).mean(axis=0)
    return centre
