"""The run plan: everything a run does, typed, validated whole before the run exists.

A plan is data: TOML or JSON in, one frozen value out. Validation collects every wrong field at
once (`problems_of`), each by its dotted path. `plan_digest` names a plan by its content.
"""

import hashlib
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, model_validator

from hansa_core.canonical import canonical_json
from hansa_core.codecs.plans import CodecPlan, ExactPlan, requires_memory
from hansa_core.names import Name
from hansa_core.plan_problems import problems_of
from hansa_core.secagg.plans import LEAST_SITES, SecurePlan, Terms
from hansa_core.strategies import FedAvgPlan, StrategyPlan, strategies
from hansa_core.tensor_groups import TensorsPlan

__all__ = [
    "BudgetPlan",
    "BufferPlan",
    "CohortChoice",
    "CohortPlan",
    "DeadlinePlan",
    "EarlyStopping",
    "EvaluationPlan",
    "HardwareFloor",
    "RunPlan",
    "parse_plan",
    "plan_digest",
    "problems_of",
]


class CohortChoice(StrEnum):
    """How a round's sites are taken from those that are eligible."""

    ALL = "all"
    RANDOM = "random"  # each as likely as the other
    WEIGHTED = "weighted"  # by the examples of their last update
    STRATIFIED = "stratified"  # places shared between the values of a label


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HardwareFloor(_Section):
    """What a site's machine has to have, by its own report."""

    cpus: int = Field(default=0, ge=0, le=65536, description="fewest CPUs")
    memory_gib: float = Field(
        default=0, ge=0, allow_inf_nan=False, description="least memory, in GiB of 2**30 bytes"
    )
    gpus: int = Field(default=0, ge=0, le=64, description="fewest GPUs")


class CohortPlan(_Section):
    """Who is admitted to a round.

    Eligible is an active site, seen lately, that carries `labels` and has `hardware`. Of the
    eligible, `choose` takes `size` at random: derived from the plan's seed and the round's number,
    so anybody can repeat the draw.
    """

    min_sites: int = Field(
        default=2, ge=1, le=10_000, description="fewest sites whose updates make a round"
    )
    choose: CohortChoice = Field(
        default=CohortChoice.ALL,
        description="how a round's sites are taken from the eligible: all of them; random, each as "
        "likely as the other; weighted, by the examples of their last update; stratified, places "
        "shared between the values of a label",
    )
    size: int | None = Field(
        default=None, ge=1, le=10_000, description="answers wanted; None: everybody's"
    )
    over_select: int = Field(
        default=0, ge=0, le=10_000, description="ask so many more; the first `size` make the round"
    )
    pinned: list[Name] = Field(
        default_factory=list, max_length=1000, description="sites that are in every round"
    )
    stratify_by: str | None = Field(
        default=None, max_length=64, description="label whose values share the places"
    )
    labels: dict[str, str] = Field(
        default_factory=dict, max_length=32, description="only sites that carry these labels"
    )
    hardware: HardwareFloor = Field(
        default=HardwareFloor(), description="only sites whose machine has at least this"
    )
    retries: int = Field(
        default=0, ge=0, le=1000, description="times that a round short of answers is held again"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.choose is CohortChoice.ALL and self.size is not None:
            raise ValueError("size needs choose = random, weighted or stratified")
        if self.choose is not CohortChoice.ALL and self.size is None:
            raise ValueError(f"choose = {self.choose} needs size, the number of answers wanted")
        if self.size is not None and self.size < self.min_sites:
            raise ValueError(f"size {self.size} is below min_sites {self.min_sites}")
        if self.size is None and self.over_select:
            raise ValueError("over_select needs size: the answers that close the round")
        if self.size is not None and len(self.pinned) > self.size + self.over_select:
            raise ValueError(f"{len(self.pinned)} pinned sites do not fit into size {self.size}")
        if len(set(self.pinned)) != len(self.pinned):
            raise ValueError("pinned names a site twice")
        if (self.choose is CohortChoice.STRATIFIED) != (self.stratify_by is not None):
            raise ValueError("choose = stratified and stratify_by need each other")
        return self


class DeadlinePlan(_Section):
    """How long things may take."""

    round_seconds: float | None = Field(
        default=None,
        gt=0,
        le=30 * 86400,
        description="from a round's opening to its closing; None derives it from past rounds",
    )


class BufferPlan(_Section):
    """Asynchronous rounds (FedBuff, Nguyen et al. 2022): a round closes when its buffer is full.

    Sites train on whatever checkpoint was newest when they began; an update that is tau rounds old
    weighs (1 + tau) ** -staleness_exponent.
    """

    size: int = Field(ge=1, le=10_000, description="updates that make a round (K)")
    concurrency: int = Field(
        default=100, ge=1, le=10_000, description="most sites that train at the same time (M)"
    )
    staleness_exponent: float = Field(
        default=0.5, ge=0, le=10, description="how much less an old update counts; 0: the same"
    )
    max_staleness: int = Field(
        default=20, ge=0, le=10_000, description="older work is stopped and refused"
    )


class EvaluationPlan(_Section):
    """When sites evaluate the global model on their held-out data."""

    every: int = Field(
        default=1, ge=0, le=10_000, description="evaluate before every n-th round; 0 is never"
    )
    final: bool = Field(default=True, description="one evaluation round after the last round")
    at_sites: bool = Field(default=True, description="at every site, not only at the evaluators")
    evaluators: list[Name] = Field(
        default_factory=list,
        max_length=100,
        description="sites with central test data: they evaluate and never train",
    )


class EarlyStopping(_Section):
    """End training when a metric has stopped improving."""

    metric: str = Field(
        min_length=1, max_length=64, description="the metric that is watched: its mean over sites"
    )
    source: Literal["eval", "train"] = Field(
        default="eval", description="of the model on held-out data, or of local training"
    )
    mode: Literal["min", "max"] = Field(
        default="min", description="whether less of it is better, or more"
    )
    patience: int = Field(default=5, ge=1, le=10_000, description="measurements without a gain")
    min_delta: float = Field(
        default=0, ge=0, allow_inf_nan=False, description="a smaller change is no gain"
    )


class BudgetPlan(_Section):
    """What the run may use up. A spent budget completes it with the rounds that it has."""

    seconds: float | None = Field(
        default=None, gt=0, allow_inf_nan=False, description="from its start, without pauses"
    )
    bytes: int | None = Field(default=None, gt=0, description="sent to and received from sites")


class RunPlan(_Section):
    """A whole run, as a researcher writes it."""

    name: Name = Field(description="what the run is called: lower case, digits, '.', '_', '-'")
    model: Name = Field(description="a model of the federation; its newest checkpoint is the base")
    seed: int = Field(default=0, ge=0, lt=2**63, description="every random choice derives from it")
    rounds: int = Field(
        ge=0, le=100_000, description="training rounds; 0 only evaluates the base checkpoint"
    )
    cohort: CohortPlan = Field(default=CohortPlan(), description="which sites take part")
    deadlines: DeadlinePlan = Field(default=DeadlinePlan(), description="how long a round may take")
    buffer: BufferPlan | None = Field(default=None, description="asynchronous rounds")
    strategy: StrategyPlan = Field(
        default=FedAvgPlan(), description="how the answers of a round become the next checkpoint"
    )
    tensors: TensorsPlan = Field(
        default=TensorsPlan(), description="which tensors are shared, and with whom"
    )
    codec: CodecPlan = Field(default=ExactPlan(), description="how updates are encoded")
    secure: SecurePlan | None = Field(
        default=None, description="secure aggregation: the hub learns sums over sites alone"
    )
    evaluation: EvaluationPlan = Field(
        default=EvaluationPlan(), description="when the model is measured, and by whom"
    )
    early_stopping: EarlyStopping | None = Field(
        default=None, description="end training when a metric has stopped improving"
    )
    budget: BudgetPlan = Field(
        default=BudgetPlan(), description="what the run may use up before it ends"
    )
    training: dict[str, JsonValue] = Field(
        default_factory=dict,
        max_length=256,
        description="handed to every site's trainer, which checks it against its own typed config",
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rounds == 0 and not self.evaluation.final:
            raise ValueError("a run of 0 rounds only evaluates: it needs evaluation.final = true")
        if not self.evaluation.at_sites and not self.evaluation.evaluators:
            raise ValueError("evaluation.at_sites = false needs evaluation.evaluators")
        both = sorted(set(self.cohort.pinned) & set(self.evaluation.evaluators))
        if both:
            raise ValueError(f"pinned sites cannot be evaluators: {', '.join(both)}")
        stops = self.early_stopping
        if stops is not None and stops.source == "eval" and not self.evaluation.every:
            raise ValueError("early_stopping on an eval metric needs evaluation.every above 0")
        problem = self.strategy.cohort_problem(self.cohort.min_sites, self.cohort.size)
        if problem is not None:
            raise ValueError(problem)
        self._check_parts()
        if self.buffer is not None:
            if not self.strategy.buffered:
                able = sorted(name for name, it in strategies().items() if it.buffered)
                raise ValueError(
                    f"a buffered run scales updates by their staleness, which strategy "
                    f"{self.strategy.name} cannot: wanted one of {', '.join(able)}"
                )
            if self.cohort.choose is not CohortChoice.ALL:
                raise ValueError("a buffered run asks every eligible site: choose must be all")
            if self.buffer.size < self.cohort.min_sites:
                raise ValueError(
                    f"buffer.size {self.buffer.size} is below min_sites {self.cohort.min_sites}"
                )
        return self

    @property
    def state_kind(self) -> str:
        """What the server's slots are of: a checkpoint of the same kind hands its own on."""
        kind = self.strategy.state_kind
        tensors = self.tensors.model_dump(mode="json", exclude_defaults=True)
        if not tensors:
            return kind
        return f"{kind} tensors={hashlib.sha256(canonical_json(tensors)).hexdigest()}"

    @property
    def encoding(self) -> str | None:
        """What a stored update of the run is encoded by, as canonical JSON; None: not at all."""
        if isinstance(self.codec, ExactPlan):
            return None
        return canonical_json(self.codec.model_dump(mode="json")).decode()

    @property
    def sites_remember(self) -> bool:
        """Whether a site goes on from what it kept of its last round."""
        return bool(
            self.strategy.local_work().remembers
            or requires_memory(self.codec)
            or self.tensors.personal
        )

    def _check_parts(self) -> None:
        """Raise ValueError for sections that cannot work together."""
        strategy, name = self.strategy, self.strategy.name
        root = strategy.root_site
        if root is not None and root not in self.cohort.pinned:
            raise ValueError(
                f"{name} needs its root site in every round: add {root!r} to cohort.pinned"
            )
        if strategy.counts_population and self.tensors.groups:
            raise ValueError(
                f"{name} counts all sites alike: no tensors.groups, which only some of them hold"
            )
        if self.secure is not None:
            self._check_secure(self.secure)
        if self.buffer is not None and requires_memory(self.codec):
            raise ValueError(
                f"codec {self.codec.name} keeps what it leaves out for the site's next round; in a "
                "buffered run they do not come one after the other: wanted another codec"
            )

    @property
    def secure_terms(self) -> Terms | None:
        """What the sites of a secure run agree to; None: it is not secure."""
        weighing = self.strategy.weighing
        if self.secure is None or weighing is None:
            return None
        return Terms(
            quantiser=self.secure.quantiser,
            metrics=self.secure.metrics,
            weighing=weighing,
            scalars=[scalar.value for scalar in self.strategy.local_work().scalars],
            min_survivors=max(self.secure.min_survivors or 0, self.cohort.min_sites),
            suite=self.secure.suite,
            site_metrics=self.secure.site_metrics,
        )

    def _check_secure(self, secure: SecurePlan) -> None:
        """Raise ValueError for what a sum over sites cannot do."""
        name, cohort = self.strategy.name, self.cohort
        if self.strategy.weighing is None:
            able = sorted(it for it, strategy in strategies().items() if strategy.weighing)
            raise ValueError(
                f"strategy {name} has to see each site's update, which secure aggregation hides: "
                f"wanted one of {', '.join(able)}"
            )
        if self.encoding is not None:
            raise ValueError(
                f"codec {self.codec.name} and secure aggregation do not go together: masked "
                "updates are packed integers already (secure.quantiser.lanes)"
            )
        if self.buffer is not None:
            raise ValueError(
                "a buffered run adds updates of different rounds, whose masks do not cancel: "
                "no buffer with secure aggregation"
            )
        if self.tensors.groups:
            raise ValueError(
                "tensors.groups tell sums of few sites apart: none with secure aggregation"
            )
        if cohort.choose is CohortChoice.WEIGHTED:
            raise ValueError(
                "cohort.choose = weighted needs each site's number of examples, which secure "
                "aggregation hides: wanted random or stratified"
            )
        if cohort.min_sites < LEAST_SITES:
            raise ValueError(
                f"a sum of {cohort.min_sites} updates hides too little: secure aggregation wants "
                f"cohort.min_sites of {LEAST_SITES} or more"
            )
        if cohort.size is not None and 3 * cohort.size < 2 * (cohort.size + cohort.over_select):
            raise ValueError(
                f"cohort.over_select {cohort.over_select} lets a round close with fewer than two "
                f"thirds of its sites: with secure aggregation at most {cohort.size // 2}"
            )
        stops = self.early_stopping
        if stops is not None and not secure.site_metrics:
            summed = secure.metrics.train if stops.source == "train" else secure.metrics.evaluation
            if stops.metric not in summed:
                raise ValueError(
                    f"early_stopping.metric {stops.metric!r} is not among the securely summed "
                    f"metrics {', '.join(summed) or '(none)'}: add it to secure.metrics"
                )


def parse_plan(document: Mapping[str, Any]) -> RunPlan:
    """Return the plan that `document` describes.

    Raises:
        pydantic.ValidationError: with every wrong field; `problems_of` lists them.
    """
    return RunPlan.model_validate(document)


def plan_digest(plan: RunPlan) -> str:
    """Return the SHA-256 of the plan's canonical JSON without defaults, lower-case hex.

    A plan keeps its digest when a later version adds a field; so a default never changes, and a new
    meaning gets a new field.
    """
    document = plan.model_dump(mode="json", exclude_defaults=True)
    return hashlib.sha256(canonical_json(document)).hexdigest()
