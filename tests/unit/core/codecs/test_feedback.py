"""Error feedback: nothing of a delta is lost, it only comes later."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.codecs.feedback import carry, residual_of
from hansa_core.codecs.plans import SparsePlan
from hansa_core.layouts import Layout
from hansa_core.problems import TensorFormatError
from tests.unit.core.codecs.samples import (
    SPARSE,
    a_model,
    decoded,
    encoded,
    sparse,
    titled,
    to_floats,
)

Tensors = dict[str, NDArray[Any]]

MODEL = a_model()
LAYOUT = Layout.of(MODEL)
TOPK = sparse("topk")


def test_without_a_residual_the_delta_is_widened() -> None:
    carried = carry(TOPK, MODEL, None)
    for name, array in MODEL.items():
        if carried[name].dtype == np.float32:
            assert (carried[name] == to_floats(array).astype("f4")).all()
        else:
            assert carried[name] is array


@pytest.mark.parametrize("plan", SPARSE, ids=titled)
def test_what_was_not_sent_is_kept_to_the_bit(plan: SparsePlan) -> None:
    carried = carry(plan, MODEL, None)
    sent = decoded(plan, encoded(plan, carried), Layout.of(carried))
    left = residual_of(carried, sent)
    assert set(left) == {it.name for it in LAYOUT.tensors if it.dtype.is_float}
    for name, array in left.items():
        assert array.dtype == np.float32
        unsent = sent[name] == 0
        assert (array[unsent] == carried[name][unsent]).all()
        # float32 has the difference of two close numbers exactly, of others to half a bit.
        assert np.allclose(sent[name].astype("f8") + array, carried[name], rtol=2**-23, atol=0)


@pytest.mark.parametrize("plan", SPARSE, ids=titled)
def test_sent_and_kept_are_all_that_came_in(plan: SparsePlan) -> None:
    """After many rounds of other deltas, what was sent differs from all of them by the residual."""
    rng = np.random.default_rng(5)
    layout = Layout.of({"w": np.zeros((50, 100), "f4")})
    came_in, went_out = np.zeros((50, 100)), np.zeros((50, 100))
    residual: dict[str, NDArray[np.float32]] = {"w": np.zeros((50, 100), "f4")}
    for _ in range(20):
        delta: Tensors = {"w": (rng.standard_normal((50, 100)) * 1e-3).astype("f4")}
        carried = carry(plan, delta, residual)
        sent = decoded(plan, encoded(plan, carried), layout)
        residual = residual_of(carried, sent)
        came_in += delta["w"]
        went_out += sent["w"]
    assert np.abs(came_in - went_out - residual["w"]).max() < 1e-7


@pytest.mark.parametrize("name", ["topk", "sparse2"])
def test_a_steady_delta_gets_through_in_time(name: str) -> None:
    plan = sparse(name, fraction=0.1)
    steady: Tensors = {"w": np.linspace(0.5, 1, 1000, dtype="f4").reshape(10, 100)}
    layout, rounds = Layout.of(steady), 60
    total = np.zeros((10, 100))
    residual: dict[str, NDArray[np.float32]] | None = None
    for _ in range(rounds):
        carried = carry(plan, steady, residual)
        sent = decoded(plan, encoded(plan, carried), layout)
        residual = residual_of(carried, sent)
        total += sent["w"]
    assert np.abs(total / rounds - steady["w"]).max() < 0.35


def test_of_vectors_nothing_is_left() -> None:
    carried = carry(TOPK, MODEL, None)
    left = residual_of(carried, decoded(TOPK, encoded(TOPK, carried), Layout.of(carried)))
    assert not left["d.bias"].any()
    assert left["a"].any()


def test_a_decay_lets_the_rest_fade() -> None:
    plan = sparse("sparse2", decay=0.5)
    delta: Tensors = {"w": np.full(3, 2.0, "f4"), "n": np.array(1)}
    carried = carry(plan, delta, {"w": np.full(3, 8.0, "f4")})
    assert carried["w"].tolist() == [6.0, 6.0, 6.0]


@pytest.mark.parametrize(
    "residual",
    [
        {},
        {"v": np.zeros(3, "f4")},
        {"w": np.zeros(3, "f4"), "n": np.zeros((), "f4")},
        {"w": np.zeros(4, "f4")},
    ],
)
def test_the_residual_of_another_model_is_refused(residual: dict[str, NDArray[np.float32]]) -> None:
    delta: Tensors = {"w": np.zeros(3, "f4"), "n": np.array(1)}
    with pytest.raises(TensorFormatError, match=r"differ in|has shape"):
        carry(TOPK, delta, residual)


@pytest.mark.parametrize("sent", [{}, {"w": np.zeros(2, "f4")}])
def test_another_update_has_no_residual(sent: Tensors) -> None:
    with pytest.raises(TensorFormatError, match=r"differs in|has shape"):
        residual_of({"w": np.zeros(3, "f4")}, sent)
