"""A federation in one process: real trainers, the real kernel, real codecs, no hub and no network.

A round is what a hub and its sites make of it (hansa.local_work, app.services.aggregation), by the
same pure functions: the sites' corrections, personal tensors and error feedback are kept in memory
here, and every round goes through `hansa_core.aggregation.jobs.aggregate`.

Invariants: everything follows from the plan, the sites' data and the plan's seed; what a site
remembers changes only with an update that was taken into a round.
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from hansa.pytorch import TorchConfig
from hansa.shares import Shares, personal_of, personalised, shares_of
from hansa.trainer import (
    EvalResult,
    Tensors,
    TrainContext,
    Trainer,
    TrainResult,
    delta,
    derive_seed,
    parse_config,
)
from hansa_core.aggregation.inputs import Contribution, Source
from hansa_core.aggregation.jobs import Job, Sinks, aggregate, slot_names
from hansa_core.aggregation.staleness import staleness_scale
from hansa_core.codecs.feedback import carry, residual_of
from hansa_core.codecs.files import decode, encode
from hansa_core.codecs.plans import SparsePlan
from hansa_core.corrections import Finished, begin, finish, remembered_name
from hansa_core.local_work import ControlVariates, Scalar
from hansa_core.plans import CohortChoice, RunPlan
from hansa_core.tensors import bytes_reader, read_tensors, write_tensors

PERSONAL, RESIDUAL = "personal", "residual"

Changes = Callable[[str, int], Mapping[str, JsonValue]]
"""(site, round) to what of the plan's training table is different there and then."""


@dataclass(frozen=True, slots=True)
class Site:
    """One party and its data."""

    name: str
    trainer: Trainer[TorchConfig]
    labels: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Base:
    """What training begins from: a checkpoint and the server's slots."""

    round_number: int  # of the rounds that made it; 0: none
    tensors: Tensors
    slots: Mapping[str, Tensors]


@dataclass(frozen=True, slots=True)
class Trained:
    """What a site has after training, before it is encoded."""

    site: str
    base: Base
    shares: Shares
    moved: Mapping[str, NDArray[Any]]  # the delta of what is uploaded
    num_examples: int
    scalars: Mapping[str, float]
    corrected: Finished
    personal: Tensors


Forge = Callable[[Sequence[Trained]], Sequence[Trained]]
"""What a round's sites send instead: attackers that know what everybody else has."""


def nothing_changed(site: str, round_number: int) -> Mapping[str, JsonValue]:
    """Let every site train by the plan's table."""
    del site, round_number
    return {}


class Federation:
    """A run under way."""

    def __init__(
        self, plan: RunPlan, sites: Sequence[Site], changes: Changes = nothing_changed
    ) -> None:
        """Begin with the first site's fresh model."""
        self.plan = plan
        self.sites = {site.name: site for site in sites}
        self.bytes_sent = 0  # by sites: deltas and what goes with them
        self.updates = 0
        self._changes = changes
        self._memory: dict[str, dict[str, Tensors]] = {}
        self._shares: dict[tuple[str, ...], Shares] = {}  # by groups held: layouts stay
        self._slots: dict[str, bytes] = {}
        first = sites[0]
        tensors = first.trainer.initial_tensors(self._config(first, 0), plan.seed)
        self._checkpoint = _file(tensors)
        self.base = Base(0, tensors, {})

    def cohort(self) -> list[str]:
        """Return who is asked next: all, or the pinned and others at random."""
        cohort, names = self.plan.cohort, list(self.sites)
        if cohort.choose is CohortChoice.ALL or cohort.size is None:
            return names
        rng = np.random.default_rng([self.plan.seed, self.base.round_number, 1])
        others = [name for name in names if name not in cohort.pinned]
        places = cohort.size + cohort.over_select - len(cohort.pinned)
        drawn = rng.choice(len(others), places, replace=False)
        return [*cohort.pinned, *(others[index] for index in sorted(drawn.tolist()))]

    def round(self, cohort: Sequence[str] | None = None, forge: Forge | None = None) -> None:
        """Hold a round with these sites, or those drawn."""
        names = self.cohort() if cohort is None else cohort
        trained: Sequence[Trained] = [self.train(name, self.base) for name in names]
        self.close(trained if forge is None else forge(trained))

    def train(self, name: str, base: Base, nonce: int = 0) -> Trained:
        """Return what a site makes of a checkpoint; `nonce` tells trainings of a round apart."""
        site, work = self.sites[name], self.plan.strategy.local_work()
        kept = self._memory.get(name, {})
        shares = self._shares_of(site)
        own = remembered_name(work.correction)
        mine = None if own is None else kept.get(own)
        slots = {name: base.slots[name] for name in work.slots if name in base.slots}
        term = begin(work.correction, shares.uploaded, slots, mine)
        start = personalised(base.tensors, kept.get(PERSONAL))
        round_number = base.round_number + 1
        context = TrainContext(
            self._config(site, round_number),
            derive_seed(self.plan.seed, round_number, name, str(nonce or "")),
            round_number,
            term=term,
            wants=frozenset(work.scalars),
            fixed=shares.fixed,
        )
        result = site.trainer.train(start, context)
        controls = isinstance(work.correction, ControlVariates)
        corrected = finish(
            work.correction,
            shares.uploaded,
            slots,
            mine,
            base=base.tensors,
            local=result.tensors,
            reach=_reach(result) if controls else None,
        )
        told = {Scalar.NORMALISER: result.normaliser, Scalar.BASE_LOSS: result.base_loss}
        numbers = {scalar: told[scalar] for scalar in work.scalars}
        return Trained(
            site=name,
            base=base,
            shares=shares,
            moved=delta(result.tensors, base.tensors, shares.uploaded_names),
            num_examples=result.num_examples,
            scalars={name: value for name, value in numbers.items() if value is not None},
            corrected=corrected,
            personal=personal_of(result.tensors, shares),
        )

    def close(self, trained: Sequence[Trained]) -> None:
        """Make the next checkpoint out of these updates; the sites remember what they sent."""
        strategy = self.plan.strategy
        out = bytearray()
        slots = {name: bytearray() for name in slot_names(strategy)}
        job = Job(
            base=_source(self._checkpoint),
            contributions=[self._contribution(it) for it in trained],
            slots={name: _source(file) for name, file in self._slots.items()},
            population=len(self.sites),
            tensors=self.plan.tensors,
            codec=self.plan.codec,
        )
        sinks = Sinks(out.extend, {name: it.extend for name, it in slots.items()})
        aggregate(strategy, job, sinks)
        self._checkpoint = bytes(out)
        self._slots = {name: bytes(file) for name, file in slots.items()}
        self.base = Base(
            self.base.round_number + 1,
            _tensors(self._checkpoint),
            {name: _tensors(file) for name, file in self._slots.items()},
        )

    def evaluate(self, name: str) -> EvalResult:
        """Return how the model does on a site's held-out data, with its own tensors."""
        site = self.sites[name]
        tensors = personalised(self.base.tensors, self._memory.get(name, {}).get(PERSONAL))
        context = TrainContext(self._config(site, 0), self.plan.seed)
        result = site.trainer.evaluate(tensors, context)
        if result is None:
            raise ValueError(f"site {name} holds nothing out")
        return result

    def evaluate_for(self, trainer: Trainer[TorchConfig]) -> EvalResult:
        """Return how the global model does on what a trainer of no site holds out."""
        config = trainer.config_type(batch_size=100_000)
        result = trainer.evaluate(self.base.tensors, TrainContext(config, self.plan.seed))
        if result is None:
            raise ValueError("the trainer holds nothing out")
        return result

    def _groups(self, site: Site) -> tuple[str, ...]:
        return tuple(self.plan.tensors.held_by(dict(site.labels)))

    def _shares_of(self, site: Site) -> Shares:
        groups = self._groups(site)
        if groups not in self._shares:
            self._shares[groups] = shares_of(self.base.tensors, self.plan.tensors, groups)
        return self._shares[groups]

    def _config(self, site: Site, round_number: int) -> TorchConfig:
        table = {**self.plan.training, **self._changes(site.name, round_number)}
        return parse_config(site.trainer.config_type, table)

    def _contribution(self, trained: Trained) -> Contribution:
        """Encode an update, and have its site remember what it goes on from."""
        plan, layout = self.plan.codec, trained.shares.uploaded
        kept = self._memory.get(trained.site, {})
        remember: dict[str, Tensors] = dict(trained.corrected.remember)
        if trained.personal:
            remember[PERSONAL] = trained.personal
        feeds_back = isinstance(plan, SparsePlan)
        moved: Mapping[str, NDArray[Any]] = trained.moved
        if feeds_back:
            moved = carry(plan, trained.moved, kept.get(RESIDUAL))
        round_number = trained.base.round_number + 1
        seed = derive_seed(self.plan.seed, round_number, trained.site, "rounding")
        out = bytearray()
        generator = np.random.default_rng(seed)
        encode(plan, moved, out.extend, layout=layout, generator=generator)
        file = bytes(out)
        if feeds_back:
            decoded = decode(bytes_reader(file), len(file), layout, plan)
            remember[RESIDUAL] = residual_of(moved, decoded)
        self._memory[trained.site] = remember
        parts = {name: _file(part) for name, part in trained.corrected.parts.items()}
        self.bytes_sent += len(file) + sum(map(len, parts.values()))
        self.updates += 1
        staleness = self.base.round_number - trained.base.round_number
        return Contribution(
            digest=_digest(file),
            weight=trained.num_examples,
            read=bytes_reader(file),
            scale=staleness_scale(self.plan.buffer, staleness),
            scalars=trained.scalars,
            parts={name: _source(part) for name, part in parts.items()},
            groups=self._groups(self.sites[trained.site]),
            root=trained.site == self.plan.strategy.root_site,
        )


def moved_by(trained: Trained, moved: Mapping[str, NDArray[Any]]) -> Trained:
    """Return an update with another delta."""
    return replace(trained, moved=moved)


def _reach(result: TrainResult) -> float:
    steps = result.steps if result.normaliser is None else result.normaliser
    if steps is None or result.learning_rate is None:
        raise ValueError("control variates need plain SGD, with momentum or without")
    return steps * result.learning_rate


def _file(tensors: Tensors) -> bytes:
    out = bytearray()
    write_tensors(tensors, out.extend)
    return bytes(out)


def _tensors(file: bytes) -> Tensors:
    return read_tensors(bytes_reader(file), len(file))


def _source(file: bytes) -> Source:
    return Source(_digest(file), bytes_reader(file))


def _digest(file: bytes) -> str:
    return hashlib.sha256(file).hexdigest()
