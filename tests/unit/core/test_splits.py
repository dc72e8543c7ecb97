"""An aggregation in parts gives the bytes of one worker, whoever makes which part and how often."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from hansa_core.aggregation import distances, splits
from hansa_core.aggregation.inputs import Source
from hansa_core.aggregation.jobs import Job, OpenJob, Sinks, open_job, slot_names, write_heads
from hansa_core.aggregation.splits import (
    ALIGNMENT,
    Answer,
    answer_of_json,
    answer_to_json,
    measure_part,
    next_stage,
    write_part,
)
from hansa_core.problems import AggregationError
from hansa_core.strategies import Strategy
from tests.jobs import Sent, a_server, source
from tests.rules import STRATEGIES
from tests.tensors import Tensors, encode

SECTIONS: tuple[dict[str, Any], ...] = (
    *STRATEGIES,
    {"name": "bulyan", "byzantine": 1},
    {"name": "fltrust", "root": "oslo"},
    {"name": "qfedavg", "q": 0.5, "lipschitz": 2.0},
    {"name": "fedadam"},
    {"name": "scaffold"},
)
GROUPS = {"groups": [{"name": "head", "tensors": ["h"]}], "frozen": ["table"]}
SITES = 7


@pytest.fixture(autouse=True)
def small_units(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells and ranges small enough that a small model has several."""
    monkeypatch.setattr(distances, "CELL_BLOCKS", 2)
    monkeypatch.setattr(splits, "ALIGNMENT", 1024)


def base() -> Tensors:
    rng = np.random.default_rng(0)
    return {
        "w": rng.standard_normal((6000, 1)).astype("f4"),
        "h": rng.standard_normal(3000).astype("f2"),
        "steps": np.array(3),
        "table": rng.integers(-9, 9, 500).astype("i4"),
    }


def sent(section: dict[str, Any], *, grouped: bool) -> list[Sent]:
    made: list[Sent] = []
    for site in range(SITES):
        rng = np.random.default_rng(1 + site)
        delta = {
            name: rng.standard_normal(it.shape).astype(it.dtype) for name, it in base().items()
        }
        if grouped:
            del delta["table"]
        part = {name: it.astype("f4") for name, it in delta.items() if it.dtype.kind == "f"}
        made.append(
            Sent(
                delta,
                num_examples=1 + site,
                scalars={"base_loss": 0.5 + site},
                parts={"control": part} if section["name"] == "scaffold" else None,
                groups=("head",) if grouped else (),
                root=site == 2,
            )
        )
    return made


def in_parts(strategy: Strategy, job: Job, *, parts: int) -> tuple[list[bytes], list[int]]:
    """Return the files, and how many parts each stage had; every part is made afresh, twice."""

    def opened() -> OpenJob:
        return open_job(strategy, job)

    answers: list[Answer] = []
    stages: list[int] = []
    while (stage := next_stage(strategy, opened(), answers, parts=parts)).question is not None:
        stages.append(stage.parts)
        told: list[dict[str, Any]] = []
        for part in reversed(range(stage.parts)):
            again = [
                json.dumps(
                    answer_to_json(
                        measure_part(next_stage(strategy, opened(), answers, parts=parts), part)
                    )
                )
                for _ in range(2)
            ]
            assert again[0] == again[1]
            told.insert(0, json.loads(again[0]))
        answers.append(answer_of_json(told))
    stages.append(stage.parts)
    names = (None, *slot_names(strategy))
    files = {name: bytearray() for name in names}

    def sinks_of(files: dict[str | None, bytearray]) -> Sinks:
        slots = {name: file.extend for name, file in files.items() if name is not None}
        return Sinks(files[None].extend, slots)

    write_heads(strategy, opened(), sinks_of(files))
    for part in range(stage.parts):
        made = {name: bytearray() for name in names}
        write_part(strategy, opened(), answers, stage, part, sinks_of(made))
        for name, piece in made.items():
            files[name] += piece
    return [bytes(file) for file in files.values()], stages


def job_of(base: bytes, updates: Sequence[Sent], plan: Any) -> Job:
    return Job(
        Source("base", source(base).read),
        [it.contribution() for it in updates],
        population=2 * SITES,
        tensors=plan.tensors,
    )


@pytest.mark.parametrize("parts", [1, 3, 12])
@pytest.mark.parametrize("section", SECTIONS, ids=lambda it: it["name"])
def test_parts_give_the_bytes_of_one_worker(section: dict[str, Any], parts: int) -> None:
    cohort = {"min_sites": SITES, "pinned": ["oslo"]}
    server = a_server(base(), strategy=section, cohort=cohort)
    updates = sent(section, grouped=False)
    whole = server.round(updates, population=2 * SITES)
    job = job_of(encode(base()), updates, server.plan)
    files, stages = in_parts(server.plan.strategy, job, parts=parts)
    assert files == [whole.checkpoint, *whole.slots.values()]
    assert max(stages) > 1 or parts == 1


@pytest.mark.parametrize(
    "section", [STRATEGIES[3], STRATEGIES[5], SECTIONS[-2]], ids=lambda it: it["name"]
)
def test_groups_ask_one_after_the_other(section: dict[str, Any]) -> None:
    cohort = {"min_sites": SITES}
    server = a_server(base(), strategy=section, cohort=cohort, tensors=GROUPS)
    updates = sent(section, grouped=True)
    whole = server.round(updates)
    job = job_of(encode(base()), updates, server.plan)
    files, stages = in_parts(server.plan.strategy, job, parts=4)
    assert files == [whole.checkpoint, *whole.slots.values()]
    questions = {"krum": 2, "geometric-median": 2 * 4, "fedadam": 0}[section["name"]]
    assert len(stages) == questions + 1


def test_a_round_with_too_few_updates_is_told_before_any_part() -> None:
    server = a_server(base(), strategy={"name": "krum", "byzantine": 1}, cohort={"min_sites": 5})
    job = job_of(encode(base()), sent({"name": "krum"}, grouped=False)[:3], server.plan)
    strategy = server.plan.strategy
    with pytest.raises(AggregationError, match="3 contributions, wanted 5 or more"):
        next_stage(strategy, open_job(strategy, job), [], parts=2)


def test_an_unusable_number_of_parts_is_refused() -> None:
    server = a_server(base())
    job = job_of(encode(base()), sent({"name": "fedavg"}, grouped=False), server.plan)
    opened = open_job(server.plan.strategy, job)
    for bad in (0, 1001):
        with pytest.raises(AggregationError, match=f"parts is {bad}, wanted 1 to 1000"):
            next_stage(server.plan.strategy, opened, [], parts=bad)


def test_ranges_are_whole_tiles() -> None:
    assert ALIGNMENT % 2**15 == 0
