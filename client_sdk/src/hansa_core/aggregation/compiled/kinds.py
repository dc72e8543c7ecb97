"""What compiled loops call the float dtypes, and which dtypes they take."""

from hansa_core.dtypes import DType

F64, F32, F16, BF16 = range(4)

KINDS = {DType.F64: F64, DType.F32: F32, DType.F16: F16, DType.BF16: BF16}
