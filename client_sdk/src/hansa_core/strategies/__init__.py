"""How updates become the next checkpoint: a settings class per strategy (base.py, registry.py)."""

from hansa_core.strategies.base import Strategy
from hansa_core.strategies.means import FedAvgPlan
from hansa_core.strategies.registry import StrategyPlan, strategies, strategy_of, tell_unknown

__all__ = ["FedAvgPlan", "Strategy", "StrategyPlan", "strategies", "strategy_of", "tell_unknown"]
