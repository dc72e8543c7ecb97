"""How updates become the next checkpoint, as a plan says it: one section per rule, told by `name`.

Every rule but fedavg has a required `name`, so that a plan without its defaults still says which it
is. The kernel behind each is in hansa_core.aggregation; docs/strategies.md compares them.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, assert_never, cast, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue

from hansa_core.aggregation.krum import MOST_UPDATES, least_updates
from hansa_core.aggregation.medians import trimmed_count

Length = Annotated[
    float, Field(ge=1e-12, le=1e12, description="an L2 norm over all float tensors together")
]
Iterations = Annotated[int, Field(ge=1, le=100)]


class _Choice(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FedAvgPlan(_Choice):
    """The mean of deltas weighted by num_examples (McMahan et al. 2017)."""

    name: Literal["fedavg"] = "fedavg"


class MedianPlan(_Choice):
    """The coordinate-wise median of deltas (Yin et al. 2018)."""

    name: Literal["median"]


class TrimmedMeanPlan(_Choice):
    """The coordinate-wise mean without the least and the greatest values (Yin et al. 2018)."""

    name: Literal["trimmed-mean"]
    trim: float = Field(ge=0, lt=0.5, description="fraction of the sites taken off at each end")


class KrumPlan(_Choice):
    """The one update closest to its neighbours (Blanchard et al. 2017)."""

    name: Literal["krum"]
    byzantine: int = Field(ge=0, le=1000, description="sites that may send anything (f)")


class MultiKrumPlan(_Choice):
    """The mean of the updates closest to their neighbours (Blanchard et al. 2017)."""

    name: Literal["multi-krum"]
    byzantine: int = Field(ge=0, le=1000, description="sites that may send anything (f)")
    keep: int = Field(ge=1, le=MOST_UPDATES, description="updates that the mean is of (m)")


class GeometricMedianPlan(_Choice):
    """The smoothed geometric median, RFA (Pillutla et al. 2022)."""

    name: Literal["geometric-median"]
    iterations: Iterations = 8
    smoothing: Length = 1e-6


class CentredClippingPlan(_Choice):
    """Steps towards all deltas, none longer than the radius (Karimireddy et al. 2021)."""

    name: Literal["centred-clipping"]
    radius: Length
    iterations: Iterations = 3


class NormClippingPlan(_Choice):
    """The weighted mean of deltas shortened to a bound (Sun et al. 2019)."""

    name: Literal["norm-clipping"]
    bound: Length


_Any = (
    FedAvgPlan
    | MedianPlan
    | TrimmedMeanPlan
    | KrumPlan
    | MultiKrumPlan
    | GeometricMedianPlan
    | CentredClippingPlan
    | NormClippingPlan
)


def _named(value: object) -> object:
    """Take a section without a name as fedavg."""
    if not isinstance(value, Mapping):
        return value
    section = cast("Mapping[str, object]", value)
    return {"name": "fedavg", **section}


StrategyPlan = Annotated[_Any, Field(discriminator="name"), BeforeValidator(_named)]

NAMES: tuple[str, ...] = tuple(
    str(get_args(choice.model_fields["name"].annotation)[0]) for choice in get_args(_Any)
)
BUFFERED = frozenset({"fedavg", "norm-clipping"})  # those that scale by staleness


def settings_of(strategy: StrategyPlan) -> dict[str, JsonValue]:
    """Return what a strategy is set to, defaults included, by name and in the plan's order."""
    return strategy.model_dump(mode="json", exclude={"name"})


def cohort_problem(strategy: StrategyPlan, min_sites: int, size: int | None) -> str | None:
    """Say why a round of `min_sites` to `size` updates does not suit the strategy, or None.

    `size` None: no upper limit is known.
    """
    match strategy:
        case TrimmedMeanPlan():
            if strategy.trim and not trimmed_count(min_sites, strategy.trim):
                return (
                    f"trim {strategy.trim} of min_sites {min_sites} takes off nobody: "
                    "the round would be a plain mean"
                )
        case KrumPlan() | MultiKrumPlan():
            return _krum_problem(strategy, min_sites, size)
        case FedAvgPlan() | MedianPlan() | NormClippingPlan():
            pass
        case GeometricMedianPlan() | CentredClippingPlan():
            pass
        case _:
            assert_never(strategy)
    return None


def _krum_problem(
    strategy: KrumPlan | MultiKrumPlan, min_sites: int, size: int | None
) -> str | None:
    least = least_updates(strategy.byzantine)
    if min_sites < least:
        return (
            f"{strategy.name} with byzantine {strategy.byzantine} needs min_sites {least} "
            f"(2 * byzantine + 3), got {min_sites}"
        )
    if size is not None and size > MOST_UPDATES:
        return f"{strategy.name} compares every two updates: size {size} is above {MOST_UPDATES}"
    most = min_sites - strategy.byzantine - 2
    if isinstance(strategy, MultiKrumPlan) and strategy.keep > most:
        return (
            f"multi-krum with byzantine {strategy.byzantine} and min_sites {min_sites} can keep "
            f"{most} (min_sites - byzantine - 2), got keep {strategy.keep}"
        )
    return None


def tell_unknown(problem: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return pydantic's words for an unknown name as (field, message), None for another problem."""
    if problem["type"] != "union_tag_invalid":
        return None
    wanted = ", ".join(repr(name) for name in NAMES)
    return "name", f"Input should be one of {wanted}, got {problem['ctx']['tag']!r}"
