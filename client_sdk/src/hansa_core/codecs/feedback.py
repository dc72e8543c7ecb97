"""Error feedback: what an update leaves out is not lost but added to the site's next delta.

    carried  = delta + decay * residual      what the site encodes
    residual = carried - decoded             what it keeps until its next update

Seide et al. 2014, "1-Bit Stochastic Gradient Descent"; Karimireddy et al. 2019, "Error Feedback
Fixes SignSGD", algorithm 2. With a decay below 1 (Sarfi et al. 2025) old leftovers fade.

Invariants: all of it is float32, by single operations; where a value was not sent the residual is
the carried value to the bit, and where it was sent within a factor of two, the exact difference.
Integers and BOOL travel exactly, so nothing of them is kept. Nothing is changed in place.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa_core.codecs.plans import SparsePlan
from hansa_core.dtypes import BFLOAT16, bf16_to_f32, dtype_of
from hansa_core.problems import TensorFormatError

Tensors = Mapping[str, NDArray[Any]]
Residual = Mapping[str, NDArray[np.float32]]
"""By the names of float tensors, in their shapes."""


def carry(plan: SparsePlan, delta: Tensors, residual: Residual | None) -> dict[str, NDArray[Any]]:
    """Return what to encode: the delta's floats as float32 with the residual, integers as they are.

    `residual` None: the first update. Raises TensorFormatError if it is of other tensors.
    """
    floats = {name for name, array in delta.items() if dtype_of(array).is_float}
    if residual is None:
        return {name: _widened(array) if name in floats else array for name, array in delta.items()}
    if set(residual) != floats:
        differing = sorted(set(residual) ^ floats)[:5]
        raise TensorFormatError(f"the residual and the delta differ in {', '.join(differing)}")
    decay = np.float32(plan.decay)
    carried: dict[str, NDArray[Any]] = {}
    for name, array in delta.items():
        if name not in floats:
            carried[name] = array
            continue
        _check_shape(name, residual[name], array)
        carried[name] = np.asarray(_widened(array) + decay * residual[name])
    return carried


def residual_of(carried: Tensors, decoded: Tensors) -> dict[str, NDArray[np.float32]]:
    """Return what encoding left out of the floats. Raises TensorFormatError for other tensors."""
    if carried.keys() != decoded.keys():
        differing = sorted(carried.keys() ^ decoded.keys())[:5]
        raise TensorFormatError(f"what was encoded and decoded differs in {', '.join(differing)}")
    left: dict[str, NDArray[np.float32]] = {}
    for name, array in carried.items():
        if dtype_of(array).is_float:
            _check_shape(name, decoded[name], array)
            left[name] = np.asarray(_widened(array) - _widened(decoded[name]))
    return left


def _widened(array: NDArray[Any]) -> NDArray[np.float32]:
    if array.dtype.newbyteorder("<") == BFLOAT16:
        return bf16_to_f32(array.astype(BFLOAT16, copy=False))
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused by `encode`
        return array.astype(np.float32, copy=False)


def _check_shape(name: str, seen: NDArray[Any], wanted: NDArray[Any]) -> None:
    if seen.shape != wanted.shape:
        raise TensorFormatError(
            f"tensor {name!r} has shape {list(seen.shape)}, wanted {list(wanted.shape)}"
        )
