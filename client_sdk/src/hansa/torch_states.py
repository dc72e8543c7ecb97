"""A PyTorch model's state as tensors of the wire, and back.

Invariants: the state dict is complete, buffers included; tied weights travel once, under the first
name; what no update can carry is refused by name.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from hansa.trainer import Tensors, TensorsError
from hansa_core.dtypes import DType

_DTYPES = {
    torch.float64: DType.F64,
    torch.float32: DType.F32,
    torch.float16: DType.F16,
    torch.bfloat16: DType.BF16,
    torch.int64: DType.I64,
    torch.int32: DType.I32,
    torch.int16: DType.I16,
    torch.int8: DType.I8,
    torch.uint8: DType.U8,
    torch.bool: DType.BOOL,
}


def to_tensors(model: nn.Module) -> dict[str, NDArray[Any]]:
    """Return the model's state dict as numpy copies; tied weights once, under the first name.

    Raises:
        TensorsError: an entry is no dense tensor, has a dtype that no update carries, or
            shares part of its memory with another.
    """
    state = _state(model)
    aliases = _aliases(state)
    return {name: _to_numpy(name, state[name]) for name in state if name not in aliases}


def load_tensors(model: nn.Module, tensors: Tensors) -> None:
    """Copy `tensors` into the model, which must have exactly these names, shapes and dtypes.

    Raises:
        TensorsError: with everything that differs.
    """
    state = _state(model)
    aliases = _aliases(state)
    wanted = {name: tensor for name, tensor in state.items() if name not in aliases}
    problems = [f"{name}: the model has no such tensor" for name in tensors if name not in wanted]
    for name, tensor in wanted.items():
        dtype, shape = _dtype_of(name, tensor).numpy, tuple(tensor.shape)
        if name not in tensors:
            problems.append(f"{name}: missing, the model has {dtype}{list(shape)}")
        elif tensors[name].dtype != dtype or tensors[name].shape != shape:
            seen = tensors[name]
            problems.append(
                f"{name}: got {seen.dtype}{list(seen.shape)}, the model has {dtype}{list(shape)}"
            )
    if problems:
        lines = "".join(f"\n  {line}" for line in problems)
        raise TensorsError(f"these tensors are not this model's:{lines}")
    loaded = {name: to_torch(tensors[name]) for name in wanted}
    model.load_state_dict(loaded | {alias: loaded[first] for alias, first in aliases.items()})


def parameters_by_name(model: nn.Module) -> dict[str, nn.Parameter]:
    """Return a model's parameters by the names that their tensors travel under."""
    aliases = _aliases(_state(model))
    found: dict[str, nn.Parameter] = {}
    for name, parameter in model.named_parameters(remove_duplicate=False):
        found.setdefault(aliases.get(name, name), parameter)
    return found


def _state(model: nn.Module) -> dict[str, Tensor]:
    state = cast("dict[str, object]", model.state_dict())
    wrong = [
        f"{name}: a {type(value).__name__}"
        for name, value in state.items()
        if not isinstance(value, Tensor) or value.layout is not torch.strided
    ]
    if wrong:
        raise TensorsError(f"the model's state holds more than dense tensors: {'; '.join(wrong)}")
    return cast("dict[str, Tensor]", state)


def _aliases(state: Mapping[str, Tensor]) -> dict[str, str]:
    """Return, for every repeated name of one tensor, the first name in state dict order.

    Raises:
        TensorsError: two tensors overlap without being the same.
    """
    aliases: dict[str, str] = {}
    spans: dict[tuple[int, int], tuple[str, Tensor]] = {}  # (first byte, past the last)
    for name, tensor in state.items():
        if tensor.numel() == 0:
            continue
        reach = sum((n - 1) * s for n, s in zip(tensor.shape, tensor.stride(), strict=True)) + 1
        start = tensor.data_ptr()
        span = (start, start + reach * tensor.element_size())
        first, twin = spans.setdefault(span, (name, tensor))
        if first == name:
            continue
        if (twin.shape, twin.stride(), twin.dtype) != (tensor.shape, tensor.stride(), tensor.dtype):
            raise TensorsError(f"{first} and {name} are different views of the same memory")
        aliases[name] = first
    ordered = sorted((*span, name) for span, (name, _) in spans.items())
    for (_, end, first), (start, _, second) in pairwise(ordered):
        if start < end:
            raise TensorsError(f"{first} and {second} share part of their memory")
    return aliases


def _dtype_of(name: str, tensor: Tensor) -> DType:
    dtype = _DTYPES.get(tensor.dtype)
    if dtype is None:
        wanted = ", ".join(str(known).removeprefix("torch.") for known in _DTYPES)
        seen = str(tensor.dtype).removeprefix("torch.")
        raise TensorsError(f"{name} is {seen}, wanted one of {wanted}")
    return dtype


def _to_numpy(name: str, tensor: Tensor) -> NDArray[Any]:
    dtype = _dtype_of(name, tensor)
    copy = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    if dtype is DType.BF16:  # numpy has none: pass the bits
        copy = copy.view(torch.int16)
    return copy.numpy().view(dtype.numpy)


def to_torch(array: NDArray[Any]) -> Tensor:
    """Return a copy of an array as a tensor of the same element type."""
    copy = np.array(array, order="C")  # torch would share memory, and warn if it is read-only
    if array.dtype == DType.BF16.numpy:
        return torch.from_numpy(copy.view("<i2")).view(torch.bfloat16)
    return torch.from_numpy(copy)
