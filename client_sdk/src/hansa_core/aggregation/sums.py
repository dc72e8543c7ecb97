"""Weighted sums of deltas: sum_k c_k * delta_k / divisor, element by element.

Every term is widened to float64, multiplied and added by separately rounded IEEE operations (no
BLAS, no fused multiply-add), in the order of the inputs; so the bits depend on neither tile size,
threads nor machine, nor on whether the loop is compiled.

Floats go through a compiled loop where there is one: it reads each value once, keeps the sum of 512
elements in the L1 cache, and adds four rows of F32 at a time. What of an encoded update lies in
memory in 4, 8 or 16 bits it takes as it lies there, and decodes a row of 512 into the same cache.
Measured with float32 on one core (2.5 GHz, in-place add 6.0 GB/s), GB/s of input: 17 from the L2
cache, 8 to 10 from memory, 4.5 to 5 from mapped blobs on a machine that was busy with other work;
by numpy, which writes and reads back every widened term, 1.3. Integers and BOOL, of which models
have few, are numpy's.

Shape suffixes: _t elements of one tile; _k contributions.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation import compiled
from hansa_core.aggregation.inputs import Inputs, Section
from hansa_core.aggregation.outputs import tile_elements
from hansa_core.aggregation.readers import Rows, Span
from hansa_core.dtypes import widen

CACHED = 2**15  # elements of which numpy's sum, term and input stay in the L2 cache


class WeightedSum:
    """A Combine of fixed coefficients. Files whose coefficient is 0 are not read."""

    def __init__(
        self, inputs: Inputs, coefficients_k: Sequence[float], divisor: float, *, tile_bytes: int
    ) -> None:
        pairs = zip(inputs.files, coefficients_k, strict=True)
        terms = [(file, coefficient) for file, coefficient in pairs if coefficient]
        self._rows = Rows([file for file, _ in terms])
        self._coefficients_k = np.array([coefficient for _, coefficient in terms], np.float64)
        self._divisor = float(divisor)
        self._most = min(CACHED, tile_elements(tile_bytes))

    def __call__(self, section: Section, start: int, out_t: NDArray[np.float64]) -> None:
        stop = start + len(out_t)
        if not len(self._coefficients_k):
            out_t[:] = 0
        elif section.dtype.is_float and compiled.usable():
            from hansa_core.aggregation.compiled import loops  # noqa: PLC0415 -- imports numba

            for it in self._rows.stretches(section, start, stop):
                loops.weighted_sum(
                    it.kinds_k,
                    it.blocks_k,
                    it.addresses_k,
                    it.firsts_k,
                    self._coefficients_k,
                    self._divisor,
                    out_t[it.start - start : it.start - start + it.count],
                )
        else:
            term_t = np.empty(min(self._most, len(out_t)))
            for span in self._rows.spans(section, start, stop, most=self._most):
                part_t = out_t[span.start - start : span.start - start + span.count]
                self._add_up(section, span, term_t[: span.count], part_t)

    def _add_up(
        self,
        section: Section,
        span: Span,
        term_t: NDArray[np.float64],
        out_t: NDArray[np.float64],
    ) -> None:
        dtypes = self._rows.dtypes(section)
        coefficients = self._coefficients_k.tolist()
        for index, (row, dtype) in enumerate(zip(span.rows, dtypes, strict=True)):
            target_t = term_t if index else out_t
            widen(row, dtype, target_t)
            if coefficients[index] != 1:  # x * 1 is x
                target_t *= coefficients[index]
            if index:
                out_t += term_t
        if self._divisor != 1:
            out_t /= self._divisor
