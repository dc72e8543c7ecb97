"""What a server does with the combined delta before it is added: optimisers with state.

Each works element by element, in float64, on a tile of the combined delta and of the server's
slots: tensors of its own, laid out like the model's floats, that go with every checkpoint. A slot
is rounded once a round, to what it is stored in (outputs.py); a slot that is not there yet is what
`slots` says it begins at.

Papers: Reddi et al. 2021, "Adaptive Federated Optimization", algorithm 2; Hsu, Qi and Brown 2019;
Karimireddy et al. 2020, "SCAFFOLD", algorithm 1; Acar et al. 2021, "FedDyn", algorithm 1.

Shape suffixes: _t elements of one tile.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol, assert_never

import numpy as np
from numpy.typing import NDArray

from hansa_core.local_work import CONTROL

Tile = NDArray[np.float64]

MOMENTUM = "momentum"
VARIANCE = "variance"
DUAL = "dual"


class ServerStep(Protocol):
    """Turns a combined delta into the step that the model takes."""

    @property
    def slots(self) -> Mapping[str, float]:
        """The server's slots, by name, and what every element of them is at first."""
        ...

    @property
    def parts(self) -> tuple[str, ...]:
        """The parts of updates whose plain mean it needs."""
        ...

    def __call__(
        self,
        delta_t: Tile,
        slots_t: Mapping[str, Tile],
        parts_t: Mapping[str, Tile],
        participation: float,
    ) -> None:
        """Change `delta_t` and all of `slots_t` in place.

        `participation` is the fraction of the population whose updates these are, 0 to 1.
        """
        ...


@dataclass(frozen=True, slots=True)
class MomentumStep:
    """m <- momentum * m + delta; the step is lr * m, or lr * (delta + momentum * m)."""

    lr: float
    momentum: float
    nesterov: bool

    @property
    def slots(self) -> Mapping[str, float]:
        """One first moment."""
        return {MOMENTUM: 0.0}

    @property
    def parts(self) -> tuple[str, ...]:
        """None."""
        return ()

    def __call__(
        self,
        delta_t: Tile,
        slots_t: Mapping[str, Tile],
        parts_t: Mapping[str, Tile],
        participation: float,
    ) -> None:
        """See ServerStep."""
        m_t = slots_t[MOMENTUM]
        m_t *= self.momentum
        m_t += delta_t
        if self.nesterov:
            delta_t += self.momentum * m_t
        else:
            delta_t[:] = m_t
        delta_t *= self.lr


class SecondMoment(StrEnum):
    """How squares of deltas add up to v."""

    SUM = "sum"  # v + d^2: Adagrad
    MEAN = "mean"  # beta2 * v + (1 - beta2) * d^2: Adam
    SIGNED = "signed"  # v - (1 - beta2) * d^2 * sign(v - d^2): Yogi


@dataclass(frozen=True, slots=True)
class AdaptiveStep:
    """m <- beta1 * m + (1 - beta1) * delta; the step is lr * m / (sqrt(v) + tau)."""

    lr: float
    beta1: float
    beta2: float
    tau: float
    moment: SecondMoment

    @property
    def slots(self) -> Mapping[str, float]:
        """Two moments; v begins at tau^2, the least that the paper allows."""
        return {MOMENTUM: 0.0, VARIANCE: self.tau * self.tau}

    @property
    def parts(self) -> tuple[str, ...]:
        """None."""
        return ()

    def __call__(
        self,
        delta_t: Tile,
        slots_t: Mapping[str, Tile],
        parts_t: Mapping[str, Tile],
        participation: float,
    ) -> None:
        """See ServerStep."""
        m_t, v_t = slots_t[MOMENTUM], slots_t[VARIANCE]
        square_t = delta_t * delta_t
        match self.moment:
            case SecondMoment.SUM:
                v_t += square_t
            case SecondMoment.MEAN:
                v_t *= self.beta2
                v_t += (1 - self.beta2) * square_t
            case SecondMoment.SIGNED:
                sign_t = np.sign(v_t - square_t)
                v_t -= (1 - self.beta2) * square_t * sign_t
            case _:
                assert_never(self.moment)
        m_t *= self.beta1
        delta_t *= 1 - self.beta1
        m_t += delta_t
        np.sqrt(v_t, out=square_t)
        square_t += self.tau
        np.divide(m_t, square_t, out=delta_t)
        delta_t *= self.lr


@dataclass(frozen=True, slots=True)
class ControlStep:
    """SCAFFOLD: c <- c + participation * mean(dc_k); the step is lr * delta."""

    lr: float

    @property
    def slots(self) -> Mapping[str, float]:
        """The mean control variate of all sites."""
        return {CONTROL: 0.0}

    @property
    def parts(self) -> tuple[str, ...]:
        """How each site's control variate has changed."""
        return (CONTROL,)

    def __call__(
        self,
        delta_t: Tile,
        slots_t: Mapping[str, Tile],
        parts_t: Mapping[str, Tile],
        participation: float,
    ) -> None:
        """See ServerStep."""
        change_t = parts_t[CONTROL]
        change_t *= participation
        c_t = slots_t[CONTROL]
        c_t += change_t
        delta_t *= self.lr


@dataclass(frozen=True, slots=True)
class DynamicStep:
    """FedDyn: h <- h - alpha * participation * delta; the step is delta - h / alpha."""

    alpha: float

    @property
    def slots(self) -> Mapping[str, float]:
        """The mean of all sites' linear terms."""
        return {DUAL: 0.0}

    @property
    def parts(self) -> tuple[str, ...]:
        """None."""
        return ()

    def __call__(
        self,
        delta_t: Tile,
        slots_t: Mapping[str, Tile],
        parts_t: Mapping[str, Tile],
        participation: float,
    ) -> None:
        """See ServerStep."""
        h_t = slots_t[DUAL]
        h_t -= (self.alpha * participation) * delta_t
        delta_t -= h_t / self.alpha
