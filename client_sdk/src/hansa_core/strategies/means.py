"""Strategies of weighted means, and what some of them change about local training.

docs/strategies.md compares them; the papers are named at each.
"""

from typing import ClassVar, Literal

from pydantic import Field

from hansa_core.aggregation.inputs import Inputs
from hansa_core.aggregation.mean import nova_mean, plain_mean, q_fair_mean, weighted_mean
from hansa_core.aggregation.outputs import Combine
from hansa_core.aggregation.steps import ControlStep, DynamicStep, ServerStep
from hansa_core.local_work import (
    ControlVariates,
    DynamicRegularisation,
    LocalWork,
    Proximal,
    Scalar,
)
from hansa_core.secagg.terms import Weighing
from hansa_core.strategies.base import Strategy

MEAN_RULE = "weighted-mean/1"  # what receipts have called fedavg from the start


class FedAvgPlan(Strategy, frozen=True):
    """The mean of deltas weighted by num_examples (McMahan et al. 2017).

    The one to begin with: little to set, and fast where sites have similar data.
    """

    buffered: ClassVar[bool] = True
    weighing: ClassVar[Weighing] = Weighing.EXAMPLES

    name: Literal["fedavg"] = Field(default="fedavg", description="the strategy")

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Weigh by examples."""
        return weighted_mean(inputs, tile_bytes=tile_bytes)

    def rule_name(self) -> str:
        """Return the rule's first name."""
        return MEAN_RULE


class FedProxPlan(Strategy, frozen=True):
    """FedAvg whose sites are drawn back to the global model (Li et al. 2020).

    For sites whose data differ, or that train for many steps: they drift apart less.
    """

    buffered: ClassVar[bool] = True
    weighing: ClassVar[Weighing] = Weighing.EXAMPLES

    name: Literal["fedprox"] = Field(description="the strategy")
    mu: float = Field(ge=0, le=1e6, description="strength of the proximal term")

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Weigh by examples."""
        return weighted_mean(inputs, tile_bytes=tile_bytes)

    def local_work(self) -> LocalWork:
        """Add mu * (w - w_global) to every gradient."""
        return LocalWork(correction=Proximal(kind="proximal", mu=self.mu))


class ScaffoldPlan(Strategy, frozen=True):
    """Control variates against client drift, option II (Karimireddy et al. 2020, algorithm 1).

    For sites whose data differ much and that come back often; needs SGD, and twice the traffic.
    """

    counts_population: ClassVar[bool] = True
    weighing: ClassVar[Weighing] = Weighing.EQUAL

    name: Literal["scaffold"] = Field(description="the strategy")
    server_lr: float = Field(default=1.0, gt=0, le=100, description="global step size (eta_g)")

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Count each site once."""
        return plain_mean(inputs, tile_bytes=tile_bytes)

    def server_step(self) -> ServerStep:
        """Keep the mean control variate of all sites."""
        return ControlStep(lr=self.server_lr)

    def local_work(self) -> LocalWork:
        """Correct every gradient by c - c_k."""
        return LocalWork(correction=ControlVariates(kind="control-variates"))


class FedNovaPlan(Strategy, frozen=True):
    """Normalised averaging: sites may take different numbers of steps (Wang et al. 2020).

    For sites of unequal size or speed, that take unequal numbers of local steps.
    """

    weighing: ClassVar[Weighing] = Weighing.NORMALISED

    name: Literal["fednova"] = Field(description="the strategy")

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Weigh by examples, per local step."""
        return nova_mean(inputs, tile_bytes=tile_bytes)

    def local_work(self) -> LocalWork:
        """Say how much local work there was."""
        return LocalWork(scalars=[Scalar.NORMALISER])


class FedDynPlan(Strategy, frozen=True):
    """Dynamic regularisation (Acar et al. 2021, algorithm 1).

    For sites whose data differ much, at no more traffic; sites remember, and should come back.
    """

    counts_population: ClassVar[bool] = True
    weighing: ClassVar[Weighing] = Weighing.EQUAL

    name: Literal["feddyn"] = Field(description="the strategy")
    alpha: float = Field(gt=0, le=1e6, description="strength of the regulariser")

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Count each site once."""
        return plain_mean(inputs, tile_bytes=tile_bytes)

    def server_step(self) -> ServerStep:
        """Take out what the regularisers add up to."""
        return DynamicStep(alpha=self.alpha)

    def local_work(self) -> LocalWork:
        """Regularise each site's own objective."""
        return LocalWork(correction=DynamicRegularisation(kind="dynamic", alpha=self.alpha))


class QFedAvgPlan(Strategy, frozen=True):
    """Sites with a higher loss count for more (q-FedAvg, Li et al. 2020, algorithm 2).

    For a model that is to serve the worst-off site well, not the mean alone.
    """

    name: Literal["qfedavg"] = Field(description="the strategy")
    q: float = Field(ge=0, le=100, description="how much fairness; 0 counts every site alike")
    lipschitz: float = Field(
        gt=0, le=1e6, description="L, the inverse of the step size that suits q = 0"
    )

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Weigh by the loss that each site begins from."""
        return q_fair_mean(inputs, q=self.q, lipschitz=self.lipschitz, tile_bytes=tile_bytes)

    def local_work(self) -> LocalWork:
        """Say how well the model does before training."""
        return LocalWork(scalars=[Scalar.BASE_LOSS])
