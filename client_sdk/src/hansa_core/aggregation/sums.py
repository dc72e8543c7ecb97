"""Weighted sums of deltas: sum_k c_k * delta_k / divisor, element by element.

Every term is widened to float64, multiplied and added by separately rounded IEEE operations (no
BLAS, no fused multiply-add), in the order of the inputs; so the bits depend on neither tile size,
threads nor machine, nor on whether the loop is compiled.

Floats go through a compiled loop where there is one: it reads each value once, keeps the sum of
1024 elements in the L1 cache, and adds four rows to 64 of them at a time, in registers. All that is
narrower than F32, of encoded updates too, it takes as it lies in memory and decodes into the same
cache. Where nothing comes between the sum and the base, the loop adds that as well. Measured with
ten rows of float32 and a base on one core (2.5 GHz, in-place add 6.0 GB/s), GB/s of input: 7.6 from
mapped pages; by numpy, which writes and reads back every widened term, 1.3. Integers and BOOL, of
which models have few, are numpy's.

Shape suffixes: _t elements of one tile; _k contributions.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation import compiled
from hansa_core.aggregation.inputs import DeltaFile, Inputs, Section
from hansa_core.aggregation.outputs import tile_elements
from hansa_core.aggregation.readers import Rows, Span
from hansa_core.dtypes import DType, widen

_ADDED = frozenset({DType.F64, DType.F32, DType.BF16})  # to a base by the loop; see bases.py
CACHED = 2**15  # elements of which numpy's sum, term and input stay in the L2 cache


class WeightedSum:
    """A Combine of fixed coefficients. Files whose coefficient is 0 are not read."""

    def __init__(
        self, inputs: Inputs, coefficients_k: Sequence[float], divisor: float, *, tile_bytes: int
    ) -> None:
        pairs = zip(inputs.files, coefficients_k, strict=True)
        terms = [(file, coefficient) for file, coefficient in pairs if coefficient]
        self._files = [file for file, _ in terms]
        self._rows = Rows(self._files)
        self._rows_and_base: Rows | None = None
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

    def onto(
        self, base: DeltaFile, section: Section, start: int, out: NDArray[np.uint8]
    ) -> bool | None:
        """Write the base plus the sum in one go; see outputs.CombineOnto."""
        if not (self._files and section.dtype in _ADDED and compiled.usable()):
            return None
        from hansa_core.aggregation.compiled import loops  # noqa: PLC0415 -- imports numba

        if self._rows_and_base is None:
            self._rows_and_base = Rows([*self._files, base])
        itemsize, at = section.dtype.itemsize, out.ctypes.data
        stop = start + len(out) // itemsize
        finite = True
        for it in self._rows_and_base.stretches(section, start, stop):
            finite &= loops.weighted_sum_onto(
                it.kinds_k,
                it.blocks_k,
                it.addresses_k,
                it.firsts_k,
                self._coefficients_k,
                self._divisor,
                at + (it.start - start) * itemsize,
                it.count,
            )
        return finite

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
