"""Gets every codec's compiled loop ready, so that no round waits for it."""

import numpy as np

from hansa_core.aggregation import compiled
from hansa_core.aggregation.compiled.caches import one_at_a_time
from hansa_core.aggregation.inputs import Section
from hansa_core.codecs.files import EncodedFile, encode
from hansa_core.codecs.plans import (
    CHUNK,
    Bf16Plan,
    Fp16Plan,
    Int4Plan,
    Int8Plan,
    LossyPlan,
    Sparse2Plan,
    TopKPlan,
)
from hansa_core.dtypes import DType
from hansa_core.layouts import Layout
from hansa_core.tensors import bytes_reader

_PLANS: tuple[LossyPlan, ...] = (
    Bf16Plan(name="bf16"),
    Fp16Plan(name="fp16"),
    Int8Plan(name="int8"),
    Int4Plan(name="int4"),
    TopKPlan(name="topk"),
    Sparse2Plan(name="sparse2"),
)


def warm() -> bool:
    """Decode a chunk by each codec; return whether compiled loops are usable."""
    if not compiled.usable():
        return False
    tensors = {"w": np.zeros((2, CHUNK), np.float32)}
    layout = Layout.of(tensors)
    section = Section(0, DType.F32, layout.tensors, tensors["w"].size)
    out = np.empty(tensors["w"].nbytes, np.uint8)
    with one_at_a_time():
        for plan in _PLANS:
            file = bytearray()
            encode(plan, tensors, file.extend)
            EncodedFile(bytes_reader(file), layout, plan).fill(section, 0, out)
    return True
