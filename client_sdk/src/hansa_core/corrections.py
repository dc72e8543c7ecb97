"""Corrections of local training, as arithmetic: what is added to gradients, what is sent and kept.

Every correction is one term (local_work.py): the trainer adds `shift + pull * (w - w_global)` to
each gradient of the tensors that are uploaded. `begin` says what it is before training, `finish`
what follows from the trained weights.

- Control variates (Karimireddy et al. 2020, "SCAFFOLD", algorithm 1, option II):
  c_k+ = c_k - c + (x - y_k) / (K eta); c_k+ - c_k is sent, c_k+ kept.
- Dynamic regularisation (Acar et al. 2021, "FedDyn", algorithm 1):
  g_k+ = g_k - alpha (w_k - w_global) is kept.

Invariants: every operation is in float64; a tensor that is kept, sent or added is rounded once, to
float32, or float64 where the model has that; nothing that is not finite is kept or sent. What is
sent is the difference of what is kept, so that rounding never adds up over the rounds.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, assert_never

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.inputs import part_layout
from hansa_core.aggregation.steps import DUAL
from hansa_core.dtypes import DType, bf16_to_f32, dtype_of
from hansa_core.layouts import Layout, TensorShape
from hansa_core.local_work import (
    CONTROL,
    ControlVariates,
    Correction,
    DynamicRegularisation,
    NoCorrection,
    Proximal,
)
from hansa_core.problems import CoreError

Tensors = Mapping[str, NDArray[Any]]


class CorrectionError(CoreError):
    """A correction that cannot be computed: tensors that do not fit, or values not finite."""

    slug: ClassVar[str] = "correction-impossible"


@dataclass(frozen=True, slots=True)
class LocalTerm:
    """What a trainer adds to the gradient of each of `tensors`: shift + pull * (w - w_global)."""

    tensors: frozenset[str]  # floats that are uploaded; those that gradients train need the term
    shift: Tensors | None  # of all of `tensors`, in their shapes, float32 or float64; None: zero
    pull: float  # 0 or more


@dataclass(frozen=True, slots=True)
class Finished:
    """What a correction leaves behind, by name."""

    parts: Mapping[str, Tensors] = field(default_factory=dict[str, Tensors])  # to be sent
    remember: Mapping[str, Tensors] = field(default_factory=dict[str, Tensors])  # to be kept


def remembered_name(correction: Correction) -> str | None:
    """Return what a site calls that which it keeps from round to round; None: nothing."""
    match correction:
        case NoCorrection() | Proximal():
            return None
        case ControlVariates():
            return CONTROL
        case DynamicRegularisation():
            return DUAL
        case _:
            assert_never(correction)


def begin(
    correction: Correction, uploaded: Layout, slots: Mapping[str, Tensors], kept: Tensors | None
) -> LocalTerm | None:
    """Return the term of this round, None where training is as ever.

    `uploaded` is the layout of the delta; `slots` are the server's, none before its first step;
    `kept` is what the site kept of its last round that counted, None in its first.
    Raises CorrectionError for tensors of other names, shapes or dtypes.
    """
    floats = part_layout(uploaded).tensors
    names = frozenset(tensor.name for tensor in floats)
    match correction:
        case NoCorrection():
            return None
        case Proximal():
            return LocalTerm(names, None, correction.mu)
        case ControlVariates():
            shared = slots.get(CONTROL)
            if shared is None and kept is None:
                return LocalTerm(names, None, 0.0)
            shift = {
                it.name: _narrow(
                    _wide(shared, it, "slot control") - _wide(kept, it, "site's control"),
                    it,
                    "shift",
                )
                for it in floats
            }
            return LocalTerm(names, shift, 0.0)
        case DynamicRegularisation():
            if kept is None:
                return LocalTerm(names, None, correction.alpha)
            shift = {
                it.name: _narrow(-_wide(kept, it, "site's dual"), it, "shift") for it in floats
            }
            return LocalTerm(names, shift, correction.alpha)
        case _:
            assert_never(correction)


def finish(
    correction: Correction,
    uploaded: Layout,
    slots: Mapping[str, Tensors],
    kept: Tensors | None,
    *,
    base: Tensors,
    local: Tensors,
    reach: float | None,
) -> Finished:
    """Return what follows from training `local` from `base`; the rest is as `begin` had it.

    `reach` is how far a gradient of one would have moved a weight: learning rate times steps.
    Raises CorrectionError for tensors that do not fit or a result that is not finite, and
    ValueError if control variates come without a reach above 0.
    """
    floats = part_layout(uploaded).tensors
    match correction:
        case NoCorrection() | Proximal():
            return Finished()
        case ControlVariates():
            if reach is None or not reach > 0:
                raise ValueError(f"reach is {reach}, wanted above 0")
            return _new_controls(floats, slots.get(CONTROL), kept, base, local, reach)
        case DynamicRegularisation():
            duals = {
                it.name: _narrow(
                    _wide(kept, it, "site's dual") - correction.alpha * _moved(base, local, it),
                    it,
                    "dual",
                )
                for it in floats
            }
            return Finished(remember={DUAL: duals})
        case _:
            assert_never(correction)


def normaliser(
    steps: int, *, momentum: float = 0.0, nesterov: bool = False, pull: float = 0.0
) -> float:
    """Return |a|_1 of SGD: how many plain steps these amount to (Wang et al. 2020, section 4.1).

    It is how far a constant gradient of one moves a weight, in learning rates. `pull` is that of a
    proximal term times the learning rate. With momentum alone the closed form is
    (tau - rho (1 - rho^tau) / (1 - rho)) / (1 - rho), with pull alone (1 - (1 - pull)^tau) / pull.
    """
    moved = velocity = 0.0
    for _ in range(steps):
        gradient = 1.0 - pull * moved
        velocity = momentum * velocity + gradient
        moved += gradient + momentum * velocity if nesterov else velocity
    return moved


def _new_controls(
    floats: tuple[TensorShape, ...],
    shared: Tensors | None,
    kept: Tensors | None,
    base: Tensors,
    local: Tensors,
    reach: float,
) -> Finished:
    controls: dict[str, NDArray[Any]] = {}
    changes: dict[str, NDArray[Any]] = {}
    for it in floats:
        own = _wide(kept, it, "site's control")
        drift = _moved(base, local, it) / -reach
        new = _narrow(own - _wide(shared, it, "slot control") + drift, it, "control")
        controls[it.name] = new
        changes[it.name] = _narrow(new.astype(np.float64) - own, it, "change of control")
    return Finished(parts={CONTROL: changes}, remember={CONTROL: controls})


def _moved(base: Tensors, local: Tensors, tensor: TensorShape) -> NDArray[np.float64]:
    """Return local minus global."""
    with np.errstate(over="ignore", invalid="ignore"):  # found in the result, and named
        return np.asarray(_float64(local[tensor.name]) - _float64(base[tensor.name]))


def _wide(tensors: Tensors | None, tensor: TensorShape, what: str) -> NDArray[np.float64]:
    """Return one tensor of a file laid out like a part; zeros without the file."""
    if tensors is None:
        return np.zeros(tensor.shape)
    found = tensors.get(tensor.name)
    if found is None or (found.dtype, found.shape) != (tensor.dtype.numpy, tensor.shape):
        seen = "nothing" if found is None else f"{found.dtype}{list(found.shape)}"
        raise CorrectionError(
            f"the {what} has {seen} for {tensor.name!r}, "
            f"wanted {tensor.dtype.numpy}{list(tensor.shape)}"
        )
    return np.asarray(found.astype(np.float64))


def _float64(array: NDArray[Any]) -> NDArray[np.float64]:
    narrow = bf16_to_f32(array) if dtype_of(array) is DType.BF16 else array
    return np.asarray(narrow.astype(np.float64))


def _narrow(values: NDArray[np.float64], tensor: TensorShape, what: str) -> NDArray[Any]:
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        rounded = np.asarray(values.astype(tensor.dtype.numpy))
    bad = int(np.count_nonzero(~np.isfinite(rounded)))
    if bad:
        raise CorrectionError(
            f"{bad} of {rounded.size} values of the {what} of {tensor.name!r} are not finite"
        )
    return rounded
