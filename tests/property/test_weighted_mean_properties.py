"""Federated averaging against plain numpy and exact fractions; order never matters."""

import hashlib
import random
from fractions import Fraction
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from hansa_core.aggregation.inputs import Contribution, Source
from hansa_core.dtypes import BFLOAT16, bf16_to_f32, f64_to_bf16
from hansa_core.tensors import bytes_reader, read_tensors, write_tensors
from tests.rules import weighted_mean

BRIEF = settings(max_examples=60, deadline=None)  # a busy machine is no failure

Tensors = dict[str, NDArray[Any]]

SHAPES: dict[str, tuple[str, tuple[int, ...]]] = {
    "a.weight": ("f4", (3, 5)),
    "a.bias": ("f4", (5,)),
    "b.weight": ("f8", (4,)),
    "h": ("f2", (7,)),
    "steps": ("i8", ()),
    "table": ("i4", (2, 2)),
}


def model(seed: int, scale: float) -> Tensors:
    """Return values of all magnitudes up to `scale`: drawn one by one they would take too long."""
    rng = np.random.default_rng(seed)
    made: Tensors = {}
    for name, (dtype, shape) in SHAPES.items():
        values = rng.uniform(-scale, scale, shape) * 10.0 ** -rng.integers(0, 9, shape)
        made[name] = np.asarray(values).astype(dtype)
    return made


MODELS = st.builds(model, st.integers(0, 2**32), st.sampled_from([0.0, 1e-3, 1.0, 1e4]))
SCALES = st.just(1.0) | st.floats(1e-9, 1.0) | st.floats(0, 1, exclude_min=True)
UPDATES = st.lists(st.tuples(MODELS, st.integers(1, 2**40), SCALES), min_size=1, max_size=5)


def encode(tensors: Tensors) -> bytes:
    file = bytearray()
    write_tensors(tensors, file.extend)
    return bytes(file)


def contribution(delta: Tensors, weight: int, scale: float = 1.0) -> Contribution:
    file = encode(delta)
    return Contribution(hashlib.sha256(file).hexdigest(), weight, bytes_reader(file), scale)


def aggregate(base: Tensors, updates: list[Contribution], tile_bytes: int) -> bytes:
    out = bytearray()
    source = Source("base", bytes_reader(encode(base)))
    weighted_mean(source, updates, out.extend, tile_bytes=tile_bytes)
    return bytes(out)


@BRIEF
@given(MODELS, UPDATES, st.integers(1, 200), st.randoms(use_true_random=False))
def test_any_permutation_and_tile_gives_identical_bytes(
    base: Tensors, updates: list[tuple[Tensors, int, float]], tile_bytes: int, rng: random.Random
) -> None:
    contributions = [contribution(*update) for update in updates]
    first = aggregate(base, contributions, 4096)
    rng.shuffle(contributions)
    assert aggregate(base, contributions, tile_bytes) == first


@BRIEF
@given(MODELS, UPDATES)
def test_agrees_with_plain_numpy(base: Tensors, updates: list[tuple[Tensors, int, float]]) -> None:
    out = aggregate(base, [contribution(*update) for update in updates], 64)
    found = read_tensors(bytes_reader(out), len(out))
    ordered = sorted(updates, key=lambda u: (contribution(*u).digest, u[1:]))
    total = sum(weight for _, weight, _ in updates)
    for name, array in base.items():
        terms = (delta[name].astype("f8") * (weight * scale) for delta, weight, scale in ordered)
        mean = sum(terms) / total
        if array.dtype.kind == "f":
            wanted = (array.astype("f8") + mean).astype(array.dtype)
        else:
            info = np.iinfo(array.dtype)
            wanted = np.clip(array + np.rint(mean), info.min, info.max).astype(array.dtype)
        assert np.array_equal(found[name], wanted)


@BRIEF
@given(MODELS, UPDATES)
def test_is_within_one_rounding_of_the_exact_mean(
    base: Tensors, updates: list[tuple[Tensors, int, float]]
) -> None:
    out = aggregate(base, [contribution(*update) for update in updates], 64)
    found = read_tensors(bytes_reader(out), len(out))["a.weight"]
    total = sum(weight for _, weight, _ in updates)
    for index in range(found.size):
        terms = (
            Fraction(float(delta["a.weight"].flat[index])) * weight * Fraction(scale)
            for delta, weight, scale in updates
        )
        exact = Fraction(float(base["a.weight"].flat[index])) + sum(terms) / total
        step = Fraction(float(np.spacing(np.abs(np.float32(exact)))))
        # Half a float32 step, and room for the float64 sum, whose terms are below 1e4.
        error = abs(Fraction(float(found.flat[index])) - exact)
        assert error <= step / 2 + Fraction(1, 2**36)


@BRIEF
@given(st.floats(allow_nan=False, allow_infinity=False, width=64) | st.floats(-10, 10))
def test_float64_rounds_to_the_nearest_bfloat16(value: float) -> None:
    bits = int(f64_to_bf16(np.array([value]))[0])
    exact = Fraction(value)

    def distance(candidate: int) -> Fraction:
        # The infinity stands for the value that one more exponent would give: 2**128.
        magnitude = candidate & 0x7FFF
        if magnitude >= 0x7F80:
            reached = Fraction(2) ** 128 * (1 if candidate < 0x8000 else -1)
        else:
            pattern = np.array([candidate], np.uint16).view(BFLOAT16)
            reached = Fraction(float(bf16_to_f32(pattern)[0]))
        return abs(reached - exact)

    if abs(exact) >= Fraction(2) ** 128:
        assert bits & 0x7FFF == 0x7F80
        return
    assert (bits >= 0x8000) == (np.signbit(value))
    for neighbour in (bits - 1, bits + 1):
        if 0 <= neighbour & 0x7FFF <= 0x7F80 and neighbour >> 15 == bits >> 15:
            nearer = distance(bits) < distance(neighbour)
            tie_to_even = distance(bits) == distance(neighbour) and bits % 2 == 0
            assert nearer or tie_to_even
