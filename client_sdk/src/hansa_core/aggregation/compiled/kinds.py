"""What compiled loops call the ways in which elements lie in files, and which dtypes they take."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hansa_core.dtypes import DType

F64, F32, F16, BF16, INT8, INT4 = range(6)  # the last two are records of several elements

KINDS = {DType.F64: F64, DType.F32: F32, DType.F16: F16, DType.BF16: BF16}
ITEM_SIZES = {KINDS[dtype]: dtype.itemsize for dtype in KINDS}  # bytes; of no records


@dataclass(frozen=True, slots=True)
class Stretch:
    """Neighbouring elements of one file as they lie there, all of one kind."""

    kind: int
    block: int  # elements of a record; 1 for what is none
    skipped: int  # elements of `data` that come before them
    count: int
    data: NDArray[np.uint8]  # from the beginning of a record on
