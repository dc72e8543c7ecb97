"""Strategies that take the mean delta for a gradient and give it to an optimiser on the server.

Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 2 (FedAdagrad, FedYogi, FedAdam);
Hsu, Qi and Brown 2019, "Measuring the Effects of Non-Identical Data Distribution" (FedAvgM);
Douillard et al. 2023, "DiLoCo", algorithm 1 (an outer SGD with Nesterov momentum).
"""

from typing import ClassVar, Literal

from pydantic import Field

from hansa_core.aggregation.inputs import Inputs
from hansa_core.aggregation.mean import plain_mean, weighted_mean
from hansa_core.aggregation.outputs import Combine
from hansa_core.aggregation.steps import (
    AdaptiveStep,
    MomentumStep,
    SecondMoment,
    ServerStep,
)
from hansa_core.secagg.terms import Weighing
from hansa_core.strategies.base import Strategy


class FedAvgMPlan(Strategy, frozen=True):
    """FedAvg with momentum on the server (Hsu, Qi and Brown 2019).

    For rounds that pull to and fro, because few sites are asked or their data differ.
    """

    buffered: ClassVar[bool] = True
    weighing: ClassVar[Weighing] = Weighing.EXAMPLES

    name: Literal["fedavgm"] = Field(description="the strategy")
    lr: float = Field(default=1.0, gt=0, le=100, description="step size of the server")
    momentum: float = Field(
        default=0.9, ge=0, lt=1, description="how much of the last step goes into the next"
    )

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Weigh by examples."""
        return weighted_mean(inputs, tile_bytes=tile_bytes)

    def server_step(self) -> ServerStep:
        """Heavy-ball momentum."""
        return MomentumStep(lr=self.lr, momentum=self.momentum, nesterov=False)


class DiLoCoPlan(Strategy, frozen=True):
    """Many local steps, then one outer step with Nesterov momentum (Douillard et al. 2023).

    For language models: hundreds of local steps of AdamW to a round, few rounds.
    """

    weighing: ClassVar[Weighing] = Weighing.EQUAL

    name: Literal["diloco"] = Field(description="the strategy")
    lr: float = Field(default=0.7, gt=0, le=100, description="outer step size")
    momentum: float = Field(
        default=0.9, ge=0, lt=1, description="how much of the last step goes into the next"
    )

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Count each site once."""
        return plain_mean(inputs, tile_bytes=tile_bytes)

    def server_step(self) -> ServerStep:
        """Nesterov momentum, as PyTorch's SGD has it."""
        return MomentumStep(lr=self.lr, momentum=self.momentum, nesterov=True)


class _Adaptive(Strategy, frozen=True):
    """What the three of Reddi et al. 2021 share."""

    moment: ClassVar[SecondMoment]
    weighing: ClassVar[Weighing] = Weighing.EXAMPLES

    lr: float = Field(default=0.01, gt=0, le=100, description="step size of the server (eta)")
    beta1: float = Field(default=0.9, ge=0, lt=1, description="decay of the first moment")
    tau: float = Field(default=1e-3, gt=0, le=1, description="degree of adaptivity")

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Weigh by examples."""
        return weighted_mean(inputs, tile_bytes=tile_bytes)

    def _step(self, beta2: float) -> ServerStep:
        return AdaptiveStep(
            lr=self.lr, beta1=self.beta1, beta2=beta2, tau=self.tau, moment=self.moment
        )


class FedAdagradPlan(_Adaptive, frozen=True):
    """Adagrad on the server.

    For sparse gradients, such as those of embeddings, whose tensors move at unequal speed.
    """

    moment: ClassVar[SecondMoment] = SecondMoment.SUM

    name: Literal["fedadagrad"] = Field(description="the strategy")
    beta1: float = Field(default=0.0, ge=0, lt=1, description="decay of the first moment")

    def server_step(self) -> ServerStep:
        """Add up squares."""
        return self._step(0.0)


class FedAdamPlan(_Adaptive, frozen=True):
    """Adam on the server, without bias correction, as in the paper.

    For models whose tensors move at unequal speed, where FedAvg is slow; lr needs tuning.
    """

    moment: ClassVar[SecondMoment] = SecondMoment.MEAN

    name: Literal["fedadam"] = Field(description="the strategy")
    beta2: float = Field(default=0.99, ge=0, lt=1, description="decay of the second moment")

    def server_step(self) -> ServerStep:
        """Average squares."""
        return self._step(self.beta2)


class FedYogiPlan(_Adaptive, frozen=True):
    """Yogi on the server: Adam whose second moment falls no faster than squares come.

    Like fedadam, for updates whose size changes abruptly from round to round.
    """

    moment: ClassVar[SecondMoment] = SecondMoment.SIGNED

    name: Literal["fedyogi"] = Field(description="the strategy")
    beta2: float = Field(default=0.99, ge=0, lt=1, description="decay of the second moment")

    def server_step(self) -> ServerStep:
        """Move squares by their sign."""
        return self._step(self.beta2)
