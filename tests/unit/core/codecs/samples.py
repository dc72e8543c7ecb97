"""Models, plans and files that the tests of the codecs share."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from hansa_core.aggregation.inputs import Section
from hansa_core.codecs.files import EncodedFile, decode, encode
from hansa_core.codecs.inspection import inspector_of
from hansa_core.codecs.plans import CodecPlan, LossyPlan, SparsePlan
from hansa_core.dtypes import BFLOAT16, f32_to_bf16
from hansa_core.inspection import Inspection
from hansa_core.layouts import Layout
from hansa_core.problems import RefusalReason, UpdateRefusedError
from hansa_core.tensors import bytes_reader

Tensors = dict[str, NDArray[Any]]

LIMIT = 10**8  # bytes

_codec: TypeAdapter[CodecPlan] = TypeAdapter(CodecPlan)
_lossy: TypeAdapter[LossyPlan] = TypeAdapter(LossyPlan)

LOSSY: tuple[LossyPlan, ...] = tuple(
    _lossy.validate_python(section)
    for section in (
        {"name": "bf16"},
        {"name": "fp16"},
        {"name": "int8"},
        {"name": "int8", "block": 32, "rounding": "stochastic"},
        {"name": "int4"},
        {"name": "int4", "block": 18, "rounding": "stochastic"},
        {"name": "topk"},
        {"name": "topk", "fraction": 0.003, "values": "fp16"},
        {"name": "topk", "fraction": 1},
        {"name": "sparse2"},
        {"name": "sparse2", "fraction": 0.2},
    )
)
SPARSE = tuple(plan for plan in LOSSY if isinstance(plan, SparsePlan))


def titled(plan: CodecPlan) -> str:
    """Return a short name for a test's id."""
    return "-".join(str(value) for value in plan.model_dump(exclude_defaults=True).values())


def codec(section: Mapping[str, Any]) -> CodecPlan:
    """Return the plan that a section describes."""
    return _codec.validate_python(section)


def lossy(name: str, **settings: object) -> LossyPlan:
    """Return a plan other than exact."""
    return _lossy.validate_python({"name": name, **settings})


def sparse(name: str, **settings: object) -> SparsePlan:
    """Return a plan with error feedback."""
    plan = lossy(name, **settings)
    assert isinstance(plan, SparsePlan)
    return plan


def a_model(seed: int = 0) -> Tensors:
    """Return a delta of every kind of dtype, with seams where records do not expect them."""
    rng = np.random.default_rng(seed)
    return {
        "a": (rng.standard_normal((91, 97)) * 1e-3).astype("f4"),  # two chunks and a bit
        "b": rng.standard_normal((1, 5)).astype("f4"),
        "c": (rng.standard_normal((64, 64)) * 1e-2).astype("f4"),  # one whole chunk
        "d.bias": rng.standard_normal(12).astype("f4"),  # vectors stay whole
        "d.scale": np.array(0.1, "f4"),
        "e": rng.standard_normal((5, 50)).astype("f4"),
        "empty": np.zeros((3, 0), "f4"),
        "half": (rng.standard_normal((7, 43)) * 1e-2).astype("f2"),
        "half.bias": rng.standard_normal(3).astype("f2"),
        "brain": f32_to_bf16(rng.standard_normal((3, 11)).astype("f4")).view(BFLOAT16),
        "double": rng.standard_normal((2, 9)),
        "steps": np.array(1234),
        "bytes": rng.integers(0, 255, 7).astype("u1"),
        "mask": np.array([True, False, True]),
    }


def encoded(plan: CodecPlan, tensors: Tensors, *, seed: int = 1) -> bytes:
    """Return the file of an update."""
    file = bytearray()
    size = encode(plan, tensors, file.extend, generator=np.random.default_rng(seed))
    assert size == len(file)
    return bytes(file)


def decoded(plan: CodecPlan, file: bytes, layout: Layout) -> Tensors:
    """Return the tensors of a file."""
    return decode(bytes_reader(file), len(file), layout, plan)


def inspected(
    plan: CodecPlan, layout: Layout, chunks: Sequence[bytes | memoryview], limit: int = LIMIT
) -> Inspection | tuple[RefusalReason, str]:
    """Return what an inspector says of a file that comes in these chunks."""
    inspector = inspector_of(plan, layout, limit)
    try:
        for chunk in chunks:
            inspector.feed(chunk)
        return inspector.finish()
    except UpdateRefusedError as error:
        return error.reason, str(error)


def sections_of(layout: Layout) -> list[Section]:
    """Return all tensors of a dtype together, without empty sections."""
    sections: list[Section] = []
    for dtype, group in groupby(layout.tensors, key=lambda tensor: tensor.dtype):
        tensors = tuple(group)
        count = sum(tensor.count for tensor in tensors)
        if count:
            sections.append(Section(len(sections), dtype, tensors, count))
    return sections


def part(file: EncodedFile, section: Section, start: int, count: int) -> bytes:
    """Return the bytes of decoded elements."""
    buffer = np.empty(count * file.dtype(section).itemsize, np.uint8)
    file.fill(section, start, buffer)
    return buffer.tobytes()


def in_a_row(tensors: Tensors, section: Section) -> bytes:
    """Return the bytes of a section's tensors, one after the other."""
    return b"".join(tensors[tensor.name].tobytes() for tensor in section.tensors)


def to_floats(array: NDArray[Any]) -> NDArray[np.float64]:
    """Return any float array, bfloat16 as well, in float64."""
    if array.dtype == BFLOAT16:
        return (array.view("<u2").astype("u4") << 16).view("f4").astype("f8")
    return array.astype("f8")
