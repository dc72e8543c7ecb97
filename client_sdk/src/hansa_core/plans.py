"""The run plan: everything a run does, typed, validated whole before the run exists.

A plan is data: TOML or JSON in, one frozen value out. Validation collects every wrong field at
once (`problems_of`), each by its dotted path. `plan_digest` names a plan by its content.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Protocol

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from hansa_core.canonical import canonical_json

NAME_PATTERN = r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$"

Name = Annotated[str, Field(pattern=NAME_PATTERN, description="lower case, digits, '.', '_', '-'")]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CohortPlan(_Section):
    """Who is admitted to a round."""

    min_sites: int = Field(
        default=2, ge=1, le=10_000, description="fewest sites whose updates make a round"
    )
    labels: dict[str, str] = Field(
        default_factory=dict, max_length=32, description="only sites that carry these labels"
    )


class DeadlinePlan(_Section):
    """How long things may take."""

    round_seconds: float = Field(
        default=3600, gt=0, le=30 * 86400, description="from a round's opening to its closing"
    )


class StrategyPlan(_Section):
    """How updates become the next checkpoint."""

    name: Literal["fedavg"] = Field(
        default="fedavg", description="mean of deltas weighted by num_examples (McMahan 2017)"
    )


class EvaluationPlan(_Section):
    """When sites evaluate the global model on their held-out data."""

    every: int = Field(
        default=1, ge=0, le=10_000, description="evaluate before every n-th round; 0 is never"
    )
    final: bool = Field(default=True, description="one evaluation round after the last round")


class RunPlan(_Section):
    """A whole run, as a researcher writes it."""

    name: Name
    model: Name = Field(description="a model of the federation; its newest checkpoint is the base")
    seed: int = Field(default=0, ge=0, lt=2**63, description="every random choice derives from it")
    rounds: int = Field(ge=1, le=100_000, description="training rounds")
    cohort: CohortPlan = CohortPlan()
    deadlines: DeadlinePlan = DeadlinePlan()
    strategy: StrategyPlan = StrategyPlan()
    evaluation: EvaluationPlan = EvaluationPlan()
    training: dict[str, JsonValue] = Field(
        default_factory=dict,
        max_length=256,
        description="handed to every site's trainer, which checks it against its own typed config",
    )


class ValidationFailure(Protocol):
    """What pydantic's and FastAPI's validation errors have in common."""

    def errors(self) -> Sequence[Any]: ...


def problems_of(error: ValidationFailure) -> list[tuple[str, str]]:
    """Return every wrong field of `error` as (dotted path, message with the value seen)."""
    return [
        (
            ".".join(str(part) for part in item["loc"]) or "body",
            _say(item["msg"], item["type"], item.get("input")),
        )
        for item in error.errors()
    ]


def parse_plan(document: Mapping[str, Any]) -> RunPlan:
    """Return the plan that `document` describes.

    Raises:
        pydantic.ValidationError: with every wrong field; `problems_of` lists them.
    """
    return RunPlan.model_validate(document)


def plan_digest(plan: RunPlan) -> str:
    """Return the SHA-256 of the plan's canonical JSON, lower-case hex."""
    return hashlib.sha256(canonical_json(plan.model_dump(mode="json"))).hexdigest()


def _say(message: str, kind: str, seen: object) -> str:
    if kind in {"missing", "extra_forbidden"} or isinstance(seen, (dict, list)):
        return message
    return f"{message}, got {seen!r}"
