"""What hostile sites send: attackers who know every honest delta of the round, and agree.

- sign flip, and the same ten times as long: minus one's own delta;
- inner-product manipulation (Xie, Koyejo and Gupta 2019, "Fall of Empires"): minus a fraction of
  the honest mean, all attackers the same, so that rules that look for company find it;
- a little is enough (Baruch, Baruch and Goldberg 2019): the honest mean moved, in every element, by
  as many standard deviations as a majority still hides.

Each is an honest site's update with another delta: examples and everything else stay.
"""

import statistics
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.federations.simulated import Forge, Trained, moved_by

Delta = Mapping[str, NDArray[Any]]

IPM_EPSILON = 0.5
SCALE = 10.0


class Attack(StrEnum):
    """What the attackers of a round do."""

    SIGN_FLIP = "sign-flip"
    SCALED = "scaled-flip"
    INNER_PRODUCT = "inner-product"
    LITTLE = "little-is-enough"


def forge_of(attack: Attack, attackers: Collection[str]) -> Forge:
    """Return what makes these sites attack; at least one other has to be honest."""

    def forge(trained: Sequence[Trained]) -> Sequence[Trained]:
        honest = [it.moved for it in trained if it.site not in attackers]
        hostile = len(trained) - len(honest)
        make = _maker(attack, honest, hostile)
        return [moved_by(it, make(it.moved)) if it.site in attackers else it for it in trained]

    return forge


def hidden_deviations(sites: int, hostile: int) -> float:
    """Return how many standard deviations a majority hides (Baruch et al. 2019, algorithm 3)."""
    supporters = sites // 2 + 1 - hostile
    share = (sites - hostile - supporters) / (sites - hostile)
    return max(0.0, statistics.NormalDist().inv_cdf(share))


def _maker(attack: Attack, honest: Sequence[Delta], hostile: int) -> Callable[[Delta], Delta]:
    match attack:
        case Attack.SIGN_FLIP:
            return lambda own: _scaled(own, -1.0)
        case Attack.SCALED:
            return lambda own: _scaled(own, -SCALE)
        case Attack.INNER_PRODUCT:
            mean = {name: _stack(honest, name).mean(axis=0) for name in honest[0]}
            forged = _scaled(mean, -IPM_EPSILON)
            return lambda _: forged
        case Attack.LITTLE:
            z = np.float32(hidden_deviations(len(honest) + hostile, hostile))
            stacks = {name: _stack(honest, name) for name in honest[0]}
            moved = {name: it.mean(axis=0) - z * it.std(axis=0) for name, it in stacks.items()}
            return lambda _: moved


def _stack(deltas: Sequence[Delta], name: str) -> NDArray[np.float32]:
    return np.stack([delta[name] for delta in deltas])


def _scaled(delta: Delta, factor: float) -> Delta:
    return {name: np.float32(factor) * array for name, array in delta.items()}
