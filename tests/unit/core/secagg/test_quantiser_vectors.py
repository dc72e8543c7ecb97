"""Frozen updates: the words that each becomes, and what their sum says."""

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hansa_core.canonical import canonical_json
from hansa_core.layouts import Layout
from hansa_core.secagg.packing import Packing
from hansa_core.secagg.ranges import next_ranges
from hansa_core.secagg.terms import QuantiserPlan, Weighing
from hansa_core.secagg.vectors import VectorLayout, vector_layout
from tests.unit.core.secagg.quantised import SiteUpdate, Tensors, encoded, opened, summed

CASES = json.loads(
    (Path(__file__).parents[3] / "vectors" / "secagg" / "quantiser.json").read_text()
)
MOST_LISTED = 64  # words; of longer vectors there is the digest alone


def spread(count: int, scale: float) -> np.ndarray:
    """Return the float32 numbers that a case with `spread` is made of: (i * phi mod 1) - 1/2."""
    steps = np.arange(count, dtype=np.uint64) * np.uint64(2654435761) % np.uint64(2**32)
    return ((steps / 2.0**32 - 0.5) * scale).astype("f4")


def tensors_of(layout: Layout, said: dict[str, Any]) -> Tensors:
    """Return tensors of a case: bytes in base64, or [count, scale] of `spread`."""
    tensors: Tensors = {}
    for it in layout.tensors:
        value = said[it.name]
        if isinstance(value, str):
            raw = np.frombuffer(base64.b64decode(value), it.dtype.numpy)
        else:
            raw = spread(*value)
        tensors[it.name] = raw.reshape(it.shape)
    return tensors


def layout_of_case(case: dict[str, Any]) -> VectorLayout:
    """Return the vector's layout."""
    return vector_layout(
        Layout.from_json(case["uploaded"]),
        {name: Layout.from_json(part) for name, part in case["parts"].items()},
        case["scalars"],
        case["train"],
        case["evaluation"],
        Packing(case["quantiser"]["lanes"], case["sites"]),
    )


def computed(case: dict[str, Any]) -> dict[str, Any]:
    """Return all that a case is expected to give."""
    layout, terms = layout_of_case(case), QuantiserPlan.model_validate(case["quantiser"])
    weighing, ranges = Weighing(case["weighing"]), case["ranges"]
    vectors = [
        encoded(
            layout,
            terms,
            ranges,
            SiteUpdate(
                tensors_of(layout.uploaded, update["tensors"]),
                update["weight"],
                {
                    name: tensors_of(part, update["parts"][name])
                    for name, part in layout.parts.items()
                },
                update["scalars"],
                {name: (value, many) for name, (value, many) in update["metrics"].items()},
            ),
            weighing=weighing,
            seed=update["seed"],
        )
        for update in case["updates"]
    ]
    total = summed(vectors)
    totals, means = opened(layout, terms, ranges, total, len(vectors), weighing)
    listed = layout.words <= MOST_LISTED
    return {
        "layout_sha256": hashlib.sha256(canonical_json(layout.to_json())).hexdigest(),
        "words": [
            [f"{int(word):016x}" for word in words]
            if listed
            else hashlib.sha256(words.astype("<u8").tobytes()).hexdigest()
            for words in vectors
        ],
        "totals": {
            "weight": totals.weight,
            "updates": totals.updates,
            "clipped_updates": totals.clipped_updates,
            "scalars": dict(totals.scalars),
            "metrics": {name: [it.mean, it.weight] for name, it in totals.metrics.items()},
            "tensors": [[it.name, it.rms, it.clipped] for it in totals.tensors],
        },
        "means": {
            name: [float(value).hex() for value in mean.reshape(-1)]
            if listed
            else hashlib.sha256(mean.astype("<f8").tobytes()).hexdigest()
            for name, mean in means.items()
        },
        "next_ranges": list(next_ranges(layout, terms, ranges, totals)),
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_updates_become_the_words_that_they_always_did(case: dict[str, Any]) -> None:
    assert computed(case) == case["expected"]
