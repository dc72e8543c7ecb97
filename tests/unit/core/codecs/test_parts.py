"""Compiled loops give the bits that numpy gives."""

import numpy as np
import pytest

from hansa_core.codecs.parts import decode_part, decode_plain
from hansa_core.codecs.plans import LossyPlan
from hansa_core.codecs.records import records_of
from tests.unit.core.codecs.samples import LOSSY, titled

pytest.importorskip("numba")

COUNT = 2 * 4096 + 777  # values of the tensor


@pytest.mark.parametrize("plan", LOSSY, ids=titled)
def test_parts_are_the_same_with_and_without_numba(plan: LossyPlan) -> None:
    records = records_of(plan)
    rng = np.random.default_rng(3)
    values = (rng.standard_normal(COUNT) * 10.0 ** rng.integers(-9, 3, COUNT)).astype("f4")
    elements = records.elements
    whole = COUNT // elements
    raw = [records.encode(values[: whole * elements].reshape(whole, elements), rng).reshape(-1)]
    if COUNT % elements:
        raw.append(records.encode(values[whole * elements :].reshape(1, -1), rng).reshape(-1))
    file = np.concatenate(raw)
    for start, stop in [(0, COUNT), (COUNT - 1, COUNT), (1, 2), (4095, 8193), (4097, 4098)] + [
        tuple(sorted(rng.integers(0, COUNT, 2).tolist())) for _ in range(30)
    ]:
        if start == stop:
            continue
        first, last = start // elements, (stop - 1) // elements
        size = records.size(elements)
        reach = last * size + records.size(min(elements, COUNT - last * elements))
        piece = file[first * size : reach].copy()
        plain, fast = (np.full(stop - start, 7, np.float32) for _ in range(2))
        where = COUNT - first * elements, start - first * elements
        decode_plain(records, piece, *where, plain)
        decode_part(records, piece, *where, fast)
        assert fast.tobytes() == plain.tobytes(), (start, stop)
