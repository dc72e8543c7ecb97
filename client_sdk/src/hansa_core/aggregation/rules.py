"""From a plan's strategy to the rule that carries it out, and to the rule's name in receipts.

A receipt names a rule as `median/1`, or with its settings as `trimmed-mean/1 trim=0.2`. The number
is the rule's version: it changes whenever the same updates would give other bytes, and whoever
recomputes refuses a version that it does not know.
"""

import json
from collections.abc import Sequence
from functools import partial
from typing import Protocol, assert_never

from pydantic import JsonValue, TypeAdapter

from hansa_core.aggregation.centres import centred_clipping, geometric_median
from hansa_core.aggregation.clipping import clipped_mean
from hansa_core.aggregation.inputs import Contribution, Source
from hansa_core.aggregation.krum import krum
from hansa_core.aggregation.mean import weighted_mean
from hansa_core.aggregation.medians import coordinate_median, trimmed_mean
from hansa_core.aggregation.outputs import TILE_BYTES, AggregateSummary
from hansa_core.problems import AggregationError
from hansa_core.strategies import (
    CentredClippingPlan,
    FedAvgPlan,
    GeometricMedianPlan,
    KrumPlan,
    MedianPlan,
    MultiKrumPlan,
    NormClippingPlan,
    StrategyPlan,
    TrimmedMeanPlan,
    settings_of,
)
from hansa_core.tensors import Sink

WEIGHTED_MEAN = "weighted-mean/1"  # what fedavg does, by the name it has had from the start

_VERSION = "/1"


class Rule(Protocol):
    """A rule of this package with its settings."""

    def __call__(
        self,
        base: Source,
        contributions: Sequence[Contribution],
        sink: Sink,
        *,
        tile_bytes: int = TILE_BYTES,
    ) -> AggregateSummary:
        """Write the next checkpoint, as `weighted_mean` does."""
        ...


_strategies: TypeAdapter[StrategyPlan] = TypeAdapter(StrategyPlan)


def aggregate(
    strategy: StrategyPlan,
    base: Source,
    contributions: Sequence[Contribution],
    sink: Sink,
    *,
    tile_bytes: int = TILE_BYTES,
) -> AggregateSummary:
    """Write the next checkpoint by the strategy's rule. Errors are those of the rule."""
    return _rule(strategy)(base, contributions, sink, tile_bytes=tile_bytes)


def rule_name(strategy: StrategyPlan) -> str:
    """Return what receipts call the strategy's rule, with all its settings."""
    if isinstance(strategy, FedAvgPlan):
        return WEIGHTED_MEAN
    settings = "".join(f" {key}={json.dumps(it)}" for key, it in settings_of(strategy).items())
    return f"{strategy.name}{_VERSION}{settings}"


def strategy_of(rule: str) -> StrategyPlan:
    """Return the strategy that a receipt's rule names.

    Raises AggregationError for a rule, a version or a setting that is not known here.
    """
    if rule == WEIGHTED_MEAN:
        return FedAvgPlan()
    head, *words = rule.split(" ")
    settings: dict[str, JsonValue] = {"name": head.removesuffix(_VERSION)}
    try:
        for word in words:
            key, _, value = word.partition("=")
            settings[key] = json.loads(value)
        strategy = _strategies.validate_python(settings)
    except (ValueError, RecursionError) as error:  # no JSON, or not what a strategy has
        raise _unknown(rule) from error
    if rule_name(strategy) != rule:  # one rule has one name
        raise _unknown(rule)
    return strategy


def _unknown(rule: str) -> AggregationError:
    return AggregationError(f"the rule is {rule!r}, which is not known here")


def _rule(strategy: StrategyPlan) -> Rule:
    """Return the rule with its settings."""
    match strategy:
        case FedAvgPlan():
            rule: Rule = weighted_mean
        case MedianPlan():
            rule = coordinate_median
        case TrimmedMeanPlan(trim=trim):
            rule = partial(trimmed_mean, trim=trim)
        case KrumPlan(byzantine=byzantine):
            rule = partial(krum, byzantine=byzantine)
        case MultiKrumPlan(byzantine=byzantine, keep=keep):
            rule = partial(krum, byzantine=byzantine, keep=keep)
        case GeometricMedianPlan(iterations=count, smoothing=smoothing):
            rule = partial(geometric_median, iterations=count, smoothing=smoothing)
        case CentredClippingPlan(radius=radius, iterations=count):
            rule = partial(centred_clipping, radius=radius, iterations=count)
        case NormClippingPlan(bound=bound):
            rule = partial(clipped_mean, bound=bound)
        case _:
            assert_never(strategy)
    return rule
