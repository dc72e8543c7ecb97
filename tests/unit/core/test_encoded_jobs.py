"""Aggregations of encoded updates are those of what they decode to."""

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from pydantic import TypeAdapter

from hansa_core.aggregation.inputs import Contribution, Source
from hansa_core.aggregation.jobs import Job, Sinks, aggregate
from hansa_core.codecs.files import decode, encode
from hansa_core.codecs.plans import CodecPlan
from hansa_core.layouts import Layout
from hansa_core.plans import parse_plan
from hansa_core.problems import UpdateRefusedError
from hansa_core.tensors import bytes_reader
from tests import tensors as files
from tests.tensors import Tensors

CODECS: tuple[dict[str, Any], ...] = (
    {"name": "bf16"},
    {"name": "fp16"},
    {"name": "int8"},
    {"name": "int4", "block": 32},
    {"name": "topk", "fraction": 0.1},
    {"name": "sparse2"},
)
STRATEGIES: tuple[dict[str, Any], ...] = (
    {"name": "fedavg"},
    {"name": "median"},
    {"name": "krum", "byzantine": 1},
    {"name": "geometric-median", "iterations": 2},
    {"name": "bulyan", "byzantine": 1},
    {"name": "fedadam"},
)
SITES = 7
_codec: TypeAdapter[CodecPlan] = TypeAdapter(CodecPlan)


def a_model(dtype: str = "f4") -> Tensors:
    rng = np.random.default_rng(0)
    return {
        "w": rng.standard_normal((90, 70)).astype(dtype),
        "b": rng.standard_normal(131).astype(dtype),
        "steps": np.array(3),
    }


def deltas(like: Tensors) -> list[Tensors]:
    made: list[Tensors] = []
    for site in range(SITES):
        rng = np.random.default_rng(1 + site)
        made.append(
            {name: rng.standard_normal(it.shape).astype(it.dtype) for name, it in like.items()}
        )
    return made


def round_of(
    base: Tensors, updates: list[bytes], section: dict[str, Any], codec: CodecPlan, **options: Any
) -> Tensors:
    cohort = {"min_sites": SITES}
    document = {"name": "x", "model": "x", "rounds": 1, "strategy": section, "cohort": cohort}
    strategy = parse_plan(document).strategy
    # Named by site and not by content, so that rules which choose by name choose the same.
    contributions = [
        Contribution(f"{site:064x}", 1, bytes_reader(it)) for site, it in enumerate(updates)
    ]
    job = Job(Source("base", bytes_reader(files.encode(base))), contributions, codec=codec)
    out = bytearray()
    slots: dict[str, Any] = {"momentum": len, "variance": len}
    aggregate(strategy, job, Sinks(out.extend, slots), **options)
    return files.decode(bytes(out))


def encoded(plan: Any, delta: Tensors) -> bytes:
    out = bytearray()
    encode(plan, delta, out.extend)
    return bytes(out)


@pytest.mark.parametrize("section", STRATEGIES, ids=lambda it: it["name"])
@pytest.mark.parametrize("codec", CODECS, ids=lambda it: it["name"])
def test_encoded_updates_count_as_what_they_decode_to(
    codec: dict[str, Any], section: dict[str, Any]
) -> None:
    plan: Any = _codec.validate_python(codec)
    base = a_model()
    sent = [encoded(plan, delta) for delta in deltas(base)]
    decoded = [decode(bytes_reader(it), len(it), Layout.of(base), plan) for it in sent]
    wanted = round_of(
        base, [files.encode(it) for it in decoded], section, _codec.validate_python({})
    )
    for tile_bytes in (2**18, 8 * 111):
        found = round_of(base, sent, section, plan, tile_bytes=tile_bytes)
        assert files.encode(found) == files.encode(wanted)


@pytest.mark.parametrize("codec", CODECS, ids=lambda it: it["name"])
def test_a_model_in_half_precision_takes_deltas_in_single(codec: dict[str, Any]) -> None:
    plan: Any = _codec.validate_python(codec)
    base = a_model("f2")
    sent = [encoded(plan, delta) for delta in deltas(base)]
    decoded = [decode(bytes_reader(it), len(it), Layout.of(base), plan) for it in sent]
    found = round_of(base, sent, {"name": "fedavg"}, plan)
    for name in ("w", "b"):
        mean = sum(it[name].astype(np.float64) for it in decoded) / SITES
        np.testing.assert_allclose(found[name], (base[name] + mean).astype("f2"), rtol=1e-3)


def test_tensors_as_they_are_are_no_encoded_update() -> None:
    base = a_model()
    plain = [files.encode(delta) for delta in deltas(base)]
    with pytest.raises(UpdateRefusedError):
        round_of(base, plain, {"name": "fedavg"}, _codec.validate_python({"name": "int8"}))


WARM = """
from hansa_core.codecs import compiled, warming
assert warming.warm()
for name in ("bf16", "fp16", "int8", "int4", "topk", "sparse2"):
    assert len(getattr(compiled, name).signatures) == 1, name
"""


def test_warming_readies_the_loop_of_every_codec() -> None:
    """In a process of its own: others of this one may have compiled them before."""
    argv = [sys.executable, "-c", WARM]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)  # noqa: S603 -- ours
    assert done.returncode == 0, done.stderr
