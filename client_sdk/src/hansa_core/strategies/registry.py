"""The strategies there are: our own, and those that other packages bring by an entry point.

    [project.entry-points."hansa.strategies"]
    my-rule = "my_package.strategies:MyRulePlan"

names a subclass of `Strategy` whose `name` is a Literal of one word. It has to be installed where
plans are read: at the hub, its workers, and the researchers' SDK; sites need nothing.

Invariants: a name means one strategy; an entry point that cannot be loaded, or that takes a name of
ours, is told at once and by name, never left out in silence.
"""

import json
from collections.abc import Iterable, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Annotated, Any, Union, cast, get_args

from pydantic import BeforeValidator, Field, JsonValue, TypeAdapter

from hansa_core.problems import AggregationError, StrategyLoadError
from hansa_core.strategies.base import Strategy
from hansa_core.strategies.means import (
    MEAN_RULE,
    FedAvgPlan,
    FedDynPlan,
    FedNovaPlan,
    FedProxPlan,
    QFedAvgPlan,
    ScaffoldPlan,
)
from hansa_core.strategies.robust import (
    BulyanPlan,
    CentredClippingPlan,
    FLTrustPlan,
    GeometricMedianPlan,
    KrumPlan,
    MedianPlan,
    MultiKrumPlan,
    NormClippingPlan,
    TrimmedMeanPlan,
)
from hansa_core.strategies.servers import (
    DiLoCoPlan,
    FedAdagradPlan,
    FedAdamPlan,
    FedAvgMPlan,
    FedYogiPlan,
)

GROUP = "hansa.strategies"

OURS: tuple[type[Strategy], ...] = (
    FedAvgPlan,
    FedAvgMPlan,
    FedAdagradPlan,
    FedAdamPlan,
    FedYogiPlan,
    DiLoCoPlan,
    FedProxPlan,
    ScaffoldPlan,
    FedNovaPlan,
    FedDynPlan,
    QFedAvgPlan,
    MedianPlan,
    TrimmedMeanPlan,
    KrumPlan,
    MultiKrumPlan,
    BulyanPlan,
    GeometricMedianPlan,
    CentredClippingPlan,
    NormClippingPlan,
    FLTrustPlan,
)


def name_of(strategy: type[Strategy]) -> str:
    """Return the one name of a strategy. Raises StrategyLoadError if it has none, or several."""
    names = get_args(strategy.model_fields["name"].annotation)
    if len(names) != 1 or not isinstance(names[0], str):
        raise StrategyLoadError(
            f"{strategy.__qualname__}.name is {strategy.model_fields['name'].annotation}, "
            "wanted a Literal of one word"
        )
    return names[0]


def load(points: Iterable[EntryPoint]) -> dict[str, type[Strategy]]:
    """Return our strategies and those of the entry points, by name.

    Raises StrategyLoadError for one that cannot be loaded, is none, or takes a name already taken.
    """
    found = {name_of(strategy): strategy for strategy in OURS}
    for point in sorted(points, key=lambda it: (it.name, it.value)):
        try:
            loaded: object = point.load()
        except (ImportError, AttributeError) as error:
            raise StrategyLoadError(f"strategy {point.name} ({point.value}): {error}") from error
        if not (isinstance(loaded, type) and issubclass(loaded, Strategy)):
            raise StrategyLoadError(
                f"strategy {point.name} ({point.value}) is {loaded!r}, "
                "wanted a subclass of Strategy"
            )
        name = name_of(loaded)
        if name in found:
            raise StrategyLoadError(
                f"strategy {point.name} ({point.value}) is called {name!r}, which "
                f"{found[name].__module__} has taken"
            )
        found[name] = loaded
    return found


@lru_cache
def strategies() -> Mapping[str, type[Strategy]]:
    """Return all strategies by name."""
    return load(entry_points(group=GROUP))


def tell_unknown(problem: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return pydantic's words for an unknown name as (field, message), None for another problem."""
    if problem["type"] != "union_tag_invalid":
        return None
    wanted = problem["ctx"]["expected_tags"]
    return "name", f"Input should be one of {wanted}, got {problem['ctx']['tag']!r}"


def _named(value: object) -> object:
    """Take a section without a name as fedavg."""
    if not isinstance(value, Mapping):
        return value
    section = cast("Mapping[str, object]", value)
    return {"name": "fedavg", **section}


if TYPE_CHECKING:
    StrategyPlan = Strategy
else:
    StrategyPlan = Annotated[
        Union[tuple(strategies().values())],  # noqa: UP007 -- of a tuple that is known at run time
        Field(discriminator="name"),
        BeforeValidator(_named),
    ]

_plan: TypeAdapter[Strategy] = TypeAdapter(StrategyPlan)


def strategy_of(rule: str) -> Strategy:
    """Return the strategy that a receipt's rule names.

    Raises AggregationError for a rule, a version or a setting that is not known here.
    """
    if rule == MEAN_RULE:
        return FedAvgPlan()
    head, *words = rule.split(" ")
    name, _, _ = head.partition("/")
    settings: dict[str, JsonValue] = {"name": name}
    try:
        for word in words:
            key, _, value = word.partition("=")
            settings[key] = json.loads(value)
        strategy = _plan.validate_python(settings)
    except (ValueError, RecursionError) as error:  # no JSON, or not what a strategy has
        raise _unknown(rule) from error
    if strategy.rule_name() != rule:  # one rule has one name
        raise _unknown(rule)
    return strategy


def _unknown(rule: str) -> AggregationError:
    return AggregationError(f"the rule is {rule!r}, which is not known here")
