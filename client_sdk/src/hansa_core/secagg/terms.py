"""How updates are quantised, weighed and reported in a secure run, as a plan says it.

Invariants: defaults never change, since plans are named by what differs from them.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MOST_METRICS = 64  # of a kind: each takes two words of every vector


class Weighing(StrEnum):
    """What the mean of a sum is."""

    EXAMPLES = "examples"  # sum w x / sum w, w the examples of a site
    EQUAL = "equal"  # sum x / n: every update counts once
    # FedNova (Wang et al. 2020): x is the delta per local step, a the number of steps;
    # (sum w a / sum w) * (sum w x / sum w)
    NORMALISED = "normalised"


def _once(names: list[str]) -> list[str]:
    if len(set(names)) != len(names):
        raise ValueError(f"{len(names)} names are {len(set(names))} metrics, wanted each once")
    return names


Metrics = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=64)]],
    Field(max_length=MOST_METRICS),
    AfterValidator(_once),
]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class QuantiserPlan(_Section):
    """How deltas become integers that are added: 64 / lanes bits a value."""

    lanes: Literal[2, 3, 4, 5] = Field(
        default=3, description="values that share a word of 64 bits: of 32, 21, 16 or 12 bits"
    )
    clip: float = Field(
        default=10.0,
        ge=1e-12,
        le=1e12,
        allow_inf_nan=False,
        description="greatest L2 norm of an update; a longer one is shortened",
    )
    headroom: float = Field(
        default=16.0,
        ge=1,
        le=1000,
        allow_inf_nan=False,
        description="a tensor's range, in root mean squares of its values in the round before",
    )
    max_examples: int = Field(
        default=100_000,
        ge=1,
        le=2**31,
        description="a site with more counts for this; near the sites' own numbers errs least",
    )


class SummedMetrics(_Section):
    """The metrics that are summed; a site's others are not sent."""

    train: Metrics = Field(default=["loss"], description="of local training")
    evaluation: Metrics = Field(
        default=["loss", "accuracy"], description="of the model on held-out data"
    )
