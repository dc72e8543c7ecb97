"""Which strategies there are, and how another package adds one."""

from importlib.metadata import EntryPoint
from typing import Literal

import pytest

from hansa_core.aggregation.inputs import Inputs
from hansa_core.aggregation.mean import plain_mean
from hansa_core.aggregation.outputs import Combine
from hansa_core.problems import StrategyLoadError
from hansa_core.strategies import Strategy, strategies, strategy_of
from hansa_core.strategies.registry import GROUP, load

LEAST: dict[str, dict[str, object]] = {
    "trimmed-mean": {"trim": 0.2},
    "krum": {"byzantine": 1},
    "multi-krum": {"byzantine": 1, "keep": 2},
    "bulyan": {"byzantine": 1},
    "centred-clipping": {"radius": 1.0},
    "norm-clipping": {"bound": 1.0},
    "fltrust": {"root": "oslo"},
    "fedprox": {"mu": 0.1},
    "feddyn": {"alpha": 0.1},
    "qfedavg": {"q": 0.5, "lipschitz": 10.0},
}


class EvenPlan(Strategy, frozen=True):
    """A strategy of somebody else's."""

    name: Literal["even"]
    power: int = 2

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        return plain_mean(inputs, tile_bytes=tile_bytes)


class TakenPlan(EvenPlan, frozen=True):
    name: Literal["median"]  # pyright: ignore[reportIncompatibleVariableOverride]


class NamelessPlan(EvenPlan, frozen=True):
    name: str  # pyright: ignore[reportIncompatibleVariableOverride, reportGeneralTypeIssues]


def point(value: str) -> EntryPoint:
    return EntryPoint("theirs", f"{__name__}:{value}", GROUP)


@pytest.mark.parametrize("name", sorted(strategies()))
def test_a_rules_name_in_receipts_is_read_back(name: str) -> None:
    strategy = strategies()[name].model_validate({"name": name, **LEAST.get(name, {})})
    assert strategy_of(strategy.rule_name()) == strategy
    assert len(strategy.rule_name()) <= 1024
    assert strategy.state_kind.startswith(f"{name}/")


def test_a_package_adds_one_by_an_entry_point() -> None:
    found = load([point("EvenPlan")])
    assert found["even"] is EvenPlan
    assert EvenPlan(name="even").rule_name() == "even/1 power=2"
    assert set(found) == {*strategies(), "even"}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("TakenPlan", r"is called 'median', which hansa_core\.strategies\.robust has taken"),
        ("NamelessPlan", "wanted a Literal of one word"),
        ("LEAST", "wanted a subclass of Strategy"),
        ("Missing", "strategy theirs"),
    ],
)
def test_one_that_cannot_be_used_is_told_by_name(value: str, message: str) -> None:
    with pytest.raises(StrategyLoadError, match=message):
        load([point(value)])
