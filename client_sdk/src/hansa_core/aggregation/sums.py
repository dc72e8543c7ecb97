"""Weighted sums of deltas: sum_k c_k * delta_k / divisor, element by element.

Every term is widened to float64, multiplied and added by separately rounded IEEE operations (no
BLAS, no fused multiply-add), in the order of the inputs; so the bits depend on neither tile size,
threads nor machine.

Shape suffixes: _t elements of one tile; _k contributions.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.inputs import Inputs, Section
from hansa_core.aggregation.outputs import tile_elements
from hansa_core.dtypes import DType, widen


class WeightedSum:
    """A Combine of fixed coefficients. Files whose coefficient is 0 are not read."""

    def __init__(
        self, inputs: Inputs, coefficients_k: Sequence[float], divisor: float, *, tile_bytes: int
    ) -> None:
        pairs = zip(inputs.files, coefficients_k, strict=True)
        self._terms = [(file, coefficient) for file, coefficient in pairs if coefficient]
        self._divisor = divisor
        elements = tile_elements(tile_bytes)
        self._term = np.empty(elements)
        self._raw = np.empty(elements * DType.F64.itemsize, np.uint8)

    def __call__(self, section: Section, start: int, out_t: NDArray[np.float64]) -> None:
        raw = self._raw[: len(out_t) * section.dtype.itemsize]
        term_t = self._term[: len(out_t)]
        if not self._terms:
            out_t[:] = 0
        for index, (file, coefficient) in enumerate(self._terms):
            file.fill(section, start, raw)
            target_t = term_t if index else out_t
            widen(raw, section.dtype, target_t)
            if coefficient != 1:  # x * 1 is x
                target_t *= coefficient
            if index:
                out_t += term_t
        if self._divisor != 1:
            out_t /= self._divisor
