"""Whole aggregations over files in memory: with slots, parts, groups, several rounds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from hansa_core.aggregation.inputs import Contribution, Source
from hansa_core.aggregation.jobs import Job, Sinks, aggregate, slot_names
from hansa_core.aggregation.outputs import TILE_BYTES
from hansa_core.plans import RunPlan, parse_plan
from hansa_core.tensors import bytes_reader
from tests.tensors import Tensors, decode, digest_of, encode


@dataclass(frozen=True, slots=True)
class Sent:
    """What one site sends."""

    delta: Tensors
    num_examples: int = 1
    scalars: Mapping[str, float] | None = None
    parts: Mapping[str, Tensors] | None = None
    groups: tuple[str, ...] = ()
    root: bool = False

    def contribution(self) -> Contribution:
        """Return it as the aggregator takes it."""
        file = encode(self.delta)
        return Contribution(
            digest=digest_of(file),
            weight=self.num_examples,
            read=bytes_reader(file),
            scalars=dict(self.scalars or {}),
            parts={name: source(encode(part)) for name, part in (self.parts or {}).items()},
            groups=self.groups,
            root=self.root,
        )


@dataclass(frozen=True, slots=True)
class Server:
    """A hub's memory of one run: the model's file and the slots'."""

    plan: RunPlan
    checkpoint: bytes
    slots: Mapping[str, bytes]

    @property
    def model(self) -> Tensors:
        return decode(self.checkpoint)

    def slot(self, name: str) -> Tensors:
        return decode(self.slots[name])

    def round(
        self, sent: Sequence[Sent], *, population: int | None = None, tile_bytes: int = TILE_BYTES
    ) -> "Server":
        """Return the server after a round."""
        out = bytearray()
        slots = {name: bytearray() for name in slot_names(self.plan.strategy)}
        job = Job(
            base=source(self.checkpoint),
            contributions=[it.contribution() for it in sent],
            slots={name: source(file) for name, file in self.slots.items()},
            population=population,
            tensors=self.plan.tensors,
            codec=self.plan.codec,
        )
        sinks = Sinks(out.extend, {name: it.extend for name, it in slots.items()})
        summary = aggregate(self.plan.strategy, job, sinks, tile_bytes=tile_bytes)
        assert summary.checkpoint.size == len(out)
        for name, file in slots.items():
            assert summary.slots[name].size == len(file)
        made = {name: bytes(file) for name, file in slots.items()}
        return replace(self, checkpoint=bytes(out), slots=made)


def source(file: bytes) -> Source:
    return Source(digest_of(file), bytes_reader(file))


def a_server(model: Tensors, **plan: Any) -> Server:
    """Return the server before the first round of a plan with these sections."""
    least = {"name": "x", "model": "x", "rounds": 1, "cohort": {"min_sites": 1}}
    return Server(parse_plan({**least, **plan}), encode(model), {})


def of(*values: float) -> Tensors:
    """A model of one float64 tensor, so that nothing is rounded on the way."""
    return {"w": np.array(values, np.float64)}
