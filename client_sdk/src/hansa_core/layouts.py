"""Which tensors a model has: names, element types and shapes, without values.

Invariants: a `TensorShape` or `Layout` out of bounds cannot be made, so whoever holds one need not
check it again. A layout is always in canonical order: by dtype, wider elements first, then by
name. Every tensor of a canonical file then starts at a multiple of its item size, which zero-copy
readers need, and other writers of the format happen to agree.
"""

import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

from numpy.typing import NDArray

from hansa_core.dtypes import DType, dtype_of
from hansa_core.problems import TensorFormatError

MAX_TENSORS = 100_000
MAX_NAME_LENGTH = 512  # characters
MAX_RANK = 32  # what every numpy we support can hold
MAX_DATA_SIZE = 2**48  # bytes; also bounds each dimension

METADATA = "__metadata__"  # the one key of a header that is not a tensor

_RANK = {dtype: rank for rank, dtype in enumerate((
    DType.I64, DType.F64, DType.F32, DType.I32, DType.BF16,
    DType.F16, DType.I16, DType.I8, DType.U8, DType.BOOL,
))}  # fmt: skip

_reprs = reprlib.Repr()
_reprs.maxstring = 100
_reprs.maxlevel = 3


@dataclass(frozen=True, slots=True)
class TensorShape:
    """One tensor of a model without its values. Cannot be made with values out of bounds."""

    name: str
    dtype: DType
    shape: tuple[int, ...]

    def __post_init__(self) -> None:
        _check_name(self.name)
        if len(self.shape) > MAX_RANK:
            raise TensorFormatError(
                f"tensor {self.name!r} has {len(self.shape)} dimensions, wanted at most {MAX_RANK}"
            )
        if any(dimension < 0 for dimension in self.shape):
            raise TensorFormatError(
                f"tensor {self.name!r} has shape {list(self.shape)}, wanted no negative dimension"
            )
        # Zeros are left out: numpy refuses [0, 2**40, 2**40] although it is empty.
        extent = math.prod(dimension or 1 for dimension in self.shape) * self.dtype.itemsize
        if extent > MAX_DATA_SIZE:
            raise TensorFormatError(
                f"tensor {self.name!r} spans {extent} bytes, wanted at most {MAX_DATA_SIZE}"
            )

    @property
    def count(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def size(self) -> int:
        """Bytes of the elements."""
        return self.count * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Layout:
    """Which tensors a model has, always in canonical order: equal layouts, same tensors."""

    tensors: tuple[TensorShape, ...]

    def __post_init__(self) -> None:
        if len(self.tensors) > MAX_TENSORS:
            raise TensorFormatError(
                f"{len(self.tensors)} tensors seen, wanted at most {MAX_TENSORS}"
            )
        ordered = tuple(sorted(self.tensors, key=lambda t: (_RANK[t.dtype], t.name)))
        names = {tensor.name for tensor in ordered}
        if len(names) != len(ordered):
            raise TensorFormatError(
                f"{len(ordered)} tensors share {len(names)} names, wanted one name each"
            )
        if sum(tensor.size for tensor in ordered) > MAX_DATA_SIZE:
            raise TensorFormatError(f"the tensors exceed {MAX_DATA_SIZE} bytes together")
        object.__setattr__(self, "tensors", ordered)

    @classmethod
    def of(cls, tensors: Mapping[str, NDArray[Any]]) -> Self:
        """Return the layout of arrays. Raises TensorFormatError for a dtype we cannot carry."""
        return cls(
            tuple(
                TensorShape(name, _dtype_of(name, array), array.shape)
                for name, array in tensors.items()
            )
        )

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Read what `to_json` wrote, in any order. Raises TensorFormatError for anything else."""
        items = _as_list(value)
        if items is None:
            raise TensorFormatError(f"the layout is {brief(value)}, wanted a list")
        tensors: list[TensorShape] = []
        for item in items[: MAX_TENSORS + 1]:  # one too many is enough to be refused
            fields = object_with({"name", "dtype", "shape"}, item, f"layout item {len(tensors)}")
            name = fields["name"]
            if not isinstance(name, str):
                raise TensorFormatError(f"a layout name is {name!r}, wanted a string")
            tensors.append(parse_tensor_shape(name, fields["dtype"], fields["shape"]))
        return cls(tuple(tensors))

    def to_json(self) -> list[dict[str, str | list[int]]]:
        """Return a plain JSON list of {name, dtype, shape}, in canonical order."""
        return [
            {"name": tensor.name, "dtype": tensor.dtype.value, "shape": list(tensor.shape)}
            for tensor in self.tensors
        ]

    @property
    def parameters(self) -> int:
        """Number of elements of all tensors."""
        return sum(tensor.count for tensor in self.tensors)

    @property
    def size(self) -> int:
        """Bytes of all elements, without a header."""
        return sum(tensor.size for tensor in self.tensors)


def brief(value: object) -> str:
    """Return a repr of bounded length and depth: a hostile header is not echoed in full."""
    return _reprs.repr(value)[:200]


def object_with(fields: set[str], value: object, what: str) -> dict[str, object]:
    """Return a JSON object with exactly these fields, else raise TensorFormatError."""
    found = _as_object(value)
    if found is None or set(found) != fields:
        raise TensorFormatError(f"{what} is described by {brief(value)}, wanted {sorted(fields)}")
    return found


def parse_tensor_shape(name: str, dtype: object, shape: object) -> TensorShape:
    """Return one checked tensor from its JSON fields. Raises TensorFormatError."""
    if not isinstance(dtype, str) or dtype not in DType.__members__:
        raise TensorFormatError(
            f"tensor {name[:80]!r} has dtype {brief(dtype)}, wanted one of {', '.join(DType)}"
        )
    return TensorShape(name, DType(dtype), parse_integers(shape, f"{name[:80]!r} shape"))


def parse_integers(value: object, what: str) -> tuple[int, ...]:
    """Return a JSON list of plain integers within ±MAX_DATA_SIZE, else TensorFormatError."""
    items = _as_list(value)
    if items is None or not all(type(item) is int and abs(item) <= MAX_DATA_SIZE for item in items):
        raise TensorFormatError(
            f"tensor {what} is {brief(value)}, wanted integers up to {MAX_DATA_SIZE}"
        )
    return tuple(cast("Sequence[int]", items))


def check_text(text: str, what: str) -> None:
    """Raise TensorFormatError for text that UTF-8 cannot carry."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise TensorFormatError(f"{what} holds a lone surrogate: {text[:80]!r}") from error


def _as_object(value: object) -> dict[str, object] | None:
    return cast("dict[str, object]", value) if isinstance(value, dict) else None


def _as_list(value: object) -> Sequence[object] | None:
    return cast("Sequence[object]", value) if isinstance(value, list) else None


def _dtype_of(name: str, array: NDArray[Any]) -> DType:
    try:
        return dtype_of(array)
    except TensorFormatError as error:
        raise TensorFormatError(f"tensor {name[:80]!r}: {error}") from error


def _check_name(name: str) -> None:
    if not 0 < len(name) <= MAX_NAME_LENGTH:
        raise TensorFormatError(
            f"a tensor name has {len(name)} characters, wanted 1 to {MAX_NAME_LENGTH}"
        )
    if name == METADATA:
        raise TensorFormatError(f"a tensor is called {name!r}, which the format reserves")
    check_text(name, "a tensor name")
