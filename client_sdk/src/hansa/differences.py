"""Local minus global, one tensor at a time: exact per dtype, or why it cannot be represented.

Pure; `hansa.trainer.delta` says what each dtype means.
"""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa_core.dtypes import BFLOAT16, DType, bf16_to_f32, dtype_of, f32_to_bf16
from hansa_core.problems import TensorFormatError


def differences(
    local: Mapping[str, NDArray[Any]],
    global_: Mapping[str, NDArray[Any]],
    names: Collection[str] | None,
) -> Iterator[tuple[str, NDArray[Any] | None, str | None]]:
    """Yield each tensor's name with its difference, if it is one of `names`, or what is wrong."""
    for name in local:
        if name not in global_:
            yield name, None, "not in the global model"
    for name, base in global_.items():
        if name not in local:
            yield name, None, "missing from the local weights"
        elif problem := _mismatch(local[name], base):
            yield name, None, problem
        elif names is None or name in names:
            yield name, *_subtract(local[name], base)


def _mismatch(local: NDArray[Any], base: NDArray[Any]) -> str | None:
    if local.dtype != base.dtype:
        return f"local dtype {local.dtype}, global dtype {base.dtype}"
    if local.shape != base.shape:
        return f"local shape {local.shape}, global shape {base.shape}"
    try:
        dtype_of(base)
    except TensorFormatError as error:
        return str(error)
    return None


def _subtract(local: NDArray[Any], base: NDArray[Any]) -> tuple[NDArray[Any], str | None]:
    dtype = dtype_of(base)
    if not dtype.is_float:
        return _subtract_integers(local, base, dtype)
    if dtype is DType.BF16:
        local, base = bf16_to_f32(local), bf16_to_f32(base)
    with np.errstate(over="ignore", invalid="ignore"):  # reported below, by name
        difference = np.asarray(np.subtract(local, base))
    finite = np.isfinite(difference)
    if not finite.all():
        bad = difference.size - int(np.count_nonzero(finite))
        return difference, f"{bad} of {difference.size} values are not finite"
    if dtype is DType.BF16:
        return f32_to_bf16(difference).view(BFLOAT16), None
    return difference, None


def _subtract_integers(
    local: NDArray[Any], base: NDArray[Any], dtype: DType
) -> tuple[NDArray[Any], str | None]:
    if dtype in {DType.U8, DType.BOOL}:
        changed = int(np.count_nonzero(local != base))
        wanted = f"{changed} of {base.size} values changed, and {base.dtype} has no negatives"
        return np.zeros_like(base), wanted if changed else None
    difference = np.asarray(np.subtract(local, base))
    # Two's complement wraps: the sign then disagrees with the comparison.
    wraps = bool(np.any((difference < 0) != (local < base)))
    return difference, f"the difference overflows {base.dtype}" if wraps else None
