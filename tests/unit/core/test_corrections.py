"""Corrections as arithmetic: what is added, sent and kept, against the papers' own formulas."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from hansa_core.corrections import (
    CorrectionError,
    LocalTerm,
    begin,
    finish,
    normaliser,
    remembered_name,
)
from hansa_core.dtypes import BFLOAT16, f32_to_bf16
from hansa_core.layouts import Layout
from hansa_core.local_work import (
    ControlVariates,
    Correction,
    DynamicRegularisation,
    NoCorrection,
    Proximal,
)

Tensors = Mapping[str, NDArray[Any]]

SCAFFOLD = ControlVariates(kind="control-variates")
FEDDYN = DynamicRegularisation(kind="dynamic", alpha=0.25)
RNG = np.random.default_rng(11)
BASE: Tensors = {
    "a": RNG.normal(size=(2, 3)).astype(np.float32),
    "b": RNG.normal(size=4),
    "n": np.array([3], np.int64),
}
LOCAL: Tensors = {
    "a": BASE["a"] - np.float32(0.5),
    "b": BASE["b"] + 0.25,
    "n": np.array([9], np.int64),
}
LAYOUT = Layout.of(BASE)


def floats(seed: int) -> dict[str, NDArray[Any]]:
    rng = np.random.default_rng(seed)
    return {"a": rng.normal(size=(2, 3)).astype(np.float32), "b": rng.normal(size=4)}


@pytest.mark.parametrize(
    ("correction", "name"),
    [
        (NoCorrection(), None),
        (Proximal(kind="proximal", mu=1), None),
        (SCAFFOLD, "control"),
        (FEDDYN, "dual"),
    ],
)
def test_only_some_corrections_are_remembered(correction: Correction, name: str | None) -> None:
    assert remembered_name(correction) == name


def test_no_correction_has_no_term_and_leaves_nothing() -> None:
    assert begin(NoCorrection(), LAYOUT, {}, None) is None
    done = finish(NoCorrection(), LAYOUT, {}, None, base=BASE, local=LOCAL, reach=None)
    assert (done.parts, done.remember) == ({}, {})


def test_a_proximal_term_pulls_every_float_and_leaves_nothing() -> None:
    correction = Proximal(kind="proximal", mu=0.75)
    assert begin(correction, LAYOUT, {}, None) == LocalTerm(frozenset({"a", "b"}), None, 0.75)
    done = finish(correction, LAYOUT, {}, None, base=BASE, local=LOCAL, reach=None)
    assert (done.parts, done.remember) == ({}, {})


def test_a_first_round_of_control_variates_shifts_nothing() -> None:
    assert begin(SCAFFOLD, LAYOUT, {}, None) == LocalTerm(frozenset({"a", "b"}), None, 0.0)
    done = finish(SCAFFOLD, LAYOUT, {}, None, base=BASE, local=LOCAL, reach=0.1)
    for name in ("a", "b"):
        mean_gradient = (BASE[name].astype(float) - LOCAL[name]) / 0.1
        np.testing.assert_allclose(done.parts["control"][name], mean_gradient, rtol=1e-7)
        np.testing.assert_array_equal(done.parts["control"][name], done.remember["control"][name])


@pytest.mark.parametrize("shared", [None, floats(1)])
@pytest.mark.parametrize("kept", [None, floats(2)])
def test_control_variates_are_those_of_the_paper(
    shared: Tensors | None, kept: Tensors | None
) -> None:
    slots = {} if shared is None else {"control": {**shared, "other group": np.zeros(1)}}
    term = begin(SCAFFOLD, LAYOUT, slots, kept)
    done = finish(SCAFFOLD, LAYOUT, slots, kept, base=BASE, local=LOCAL, reach=0.5)
    assert term is not None
    assert set(done.parts["control"]) == {"a", "b"}
    for name in ("a", "b"):
        c = 0.0 if shared is None else shared[name].astype(float)
        c_k = 0.0 if kept is None else kept[name].astype(float)
        if shared is not None or kept is not None:
            assert term.shift is not None
            np.testing.assert_allclose(term.shift[name], c - c_k, rtol=1e-6)
        renewed = c_k - c + (BASE[name].astype(float) - LOCAL[name]) / 0.5
        np.testing.assert_allclose(done.remember["control"][name], renewed, rtol=1e-6)
        assert done.remember["control"][name].dtype == BASE[name].dtype
        # What is sent is what the kept one changed by, to the rounding of that difference alone.
        change = done.remember["control"][name].astype(float) - c_k
        np.testing.assert_array_equal(
            done.parts["control"][name], np.asarray(change).astype(BASE[name].dtype)
        )


def test_dynamic_regularisation_keeps_the_papers_gradient() -> None:
    first = begin(FEDDYN, LAYOUT, {}, None)
    assert first == LocalTerm(frozenset({"a", "b"}), None, 0.25)
    kept = finish(FEDDYN, LAYOUT, {}, None, base=BASE, local=LOCAL, reach=None).remember["dual"]
    np.testing.assert_allclose(kept["a"], 0.25 * 0.5, rtol=1e-6)
    np.testing.assert_allclose(kept["b"], -0.25 * 0.25, rtol=1e-12)
    second = begin(FEDDYN, LAYOUT, {}, kept)
    assert second is not None
    assert second.shift is not None
    np.testing.assert_array_equal(second.shift["a"], -kept["a"])
    again = finish(FEDDYN, LAYOUT, {}, kept, base=BASE, local=LOCAL, reach=None).remember["dual"]
    np.testing.assert_allclose(again["a"], 2 * 0.25 * 0.5, rtol=1e-6)


def test_half_floats_are_corrected_in_float32() -> None:
    base = {
        "h": np.ones(3, np.float16),
        "b": f32_to_bf16(np.ones(3, np.float32)).view(BFLOAT16),
    }
    local = {
        "h": np.full(3, 1.5, np.float16),
        "b": f32_to_bf16(np.full(3, 0.75, np.float32)).view(BFLOAT16),
    }
    done = finish(SCAFFOLD, Layout.of(base), {}, None, base=base, local=local, reach=0.125)
    controls = done.remember["control"]
    assert {array.dtype for array in controls.values()} == {np.dtype(np.float32)}
    assert controls["h"].tolist() == [-4.0] * 3
    assert controls["b"].tolist() == [2.0] * 3


def test_a_slot_of_other_tensors_is_named() -> None:
    with pytest.raises(CorrectionError, match="slot control has nothing for 'a'"):
        begin(SCAFFOLD, LAYOUT, {"control": {"b": np.zeros(4)}}, None)
    wrong = {"a": np.zeros((2, 3)), "b": np.zeros(4)}
    with pytest.raises(CorrectionError, match=r"site's dual has float64\[2, 3\] for 'a'"):
        begin(FEDDYN, LAYOUT, {}, wrong)


def test_what_overflows_is_neither_sent_nor_kept() -> None:
    with pytest.raises(CorrectionError, match="6 of 6 values of the control of 'a'"):
        finish(SCAFFOLD, LAYOUT, {}, None, base=BASE, local=LOCAL, reach=1e-40)
    local = {**LOCAL, "b": np.array([0, np.nan, 0, 0])}
    with pytest.raises(CorrectionError, match="1 of 4 values of the dual of 'b'"):
        finish(FEDDYN, LAYOUT, {}, None, base=BASE, local=local, reach=None)


@pytest.mark.parametrize("reach", [None, 0.0, float("nan")])
def test_control_variates_without_a_reach_are_a_bug_of_the_caller(reach: float | None) -> None:
    with pytest.raises(ValueError, match="reach"):
        finish(SCAFFOLD, LAYOUT, {}, None, base=BASE, local=LOCAL, reach=reach)


@pytest.mark.parametrize("steps", [1, 2, 7, 500])
def test_the_normaliser_is_the_papers_closed_form(steps: int) -> None:
    assert normaliser(steps) == steps
    for rho in (0.1, 0.9, 0.99):
        closed = (steps - rho * (1 - rho**steps) / (1 - rho)) / (1 - rho)
        assert normaliser(steps, momentum=rho) == pytest.approx(closed, rel=1e-11)
    for pull in (1e-3, 0.3, 1.0):
        closed = (1 - (1 - pull) ** steps) / pull
        assert normaliser(steps, pull=pull) == pytest.approx(closed, rel=1e-11)


def test_the_normaliser_of_nesterov_looks_one_step_ahead() -> None:
    rho, steps = 0.5, 3  # gradient i counts 1 + rho + ... over the steps left, once more at its own
    weights = [1 + sum(rho**j for j in range(1, steps - i + 1)) for i in range(steps)]
    assert normaliser(steps, momentum=rho, nesterov=True) == pytest.approx(sum(weights), rel=1e-12)
