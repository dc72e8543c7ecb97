"""What rules write that look at an update as one vector: a weighted sum of the float tensors.

Integers and BOOL have no part in the geometry, so no weight follows from it for them: they take the
coordinate-wise median, in which one site in two may be anything.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.inputs import DeltaFile, Inputs, Section
from hansa_core.aggregation.ranks import MiddleMean
from hansa_core.aggregation.sums import WeightedSum


class VectorSum:
    """A Combine: sum_k c_k * delta_k / divisor of floats, the median of `which` of the rest."""

    def __init__(
        self,
        inputs: Inputs,
        coefficients_k: Sequence[float],
        divisor: float,
        *,
        tile_bytes: int,
        which: Sequence[int] | None = None,
    ) -> None:
        self._floats = WeightedSum(inputs, coefficients_k, divisor, tile_bytes=tile_bytes)
        chosen = len(inputs.files) if which is None else len(which)
        self._others = MiddleMean(inputs, (chosen - 1) // 2, which)

    def __call__(self, section: Section, start: int, out_t: NDArray[np.float64]) -> None:
        combine = self._floats if section.dtype.is_float else self._others
        combine(section, start, out_t)

    def onto(
        self, base: DeltaFile, section: Section, start: int, out: NDArray[np.uint8]
    ) -> bool | None:
        """Write the base plus the sum of floats in one go; see outputs.CombineOnto."""
        return self._floats.onto(base, section, start, out) if section.dtype.is_float else None
