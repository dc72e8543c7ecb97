"""What a strategy changes about local training, as it is told to a site.

Every correction known here is one form: the trainer adds

    shift + pull * (w - w_global)

to each gradient, where `shift` is fixed for the round and `pull` a number. A correction says what
shift and pull are, what the site remembers for its next round and what it sends beside the delta:
- proximal (FedProx, Li et al. 2020): shift 0, pull mu;
- control variates (SCAFFOLD, Karimireddy et al. 2020): shift c - c_k, pull 0; the site remembers
  c_k and sends how it changed as the part `control`; c comes as the server's slot `control`;
- dynamic regularisation (FedDyn, Acar et al. 2021): shift -g_k, pull alpha; the site remembers g_k.
"""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

CONTROL = "control"  # SCAFFOLD's control variate: a slot of the server, a part of an update


class Scalar(StrEnum):
    """A number that a strategy needs of every update, signed in its manifest."""

    NORMALISER = "normaliser"  # |a_k|_1: how many plain SGD steps the local ones amount to
    BASE_LOSS = "base_loss"  # mean training loss of the model as it came


class _Correction(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class NoCorrection(_Correction):
    """Train as ever."""

    kind: Literal["none"] = "none"


class Proximal(_Correction):
    """Stay near the global model."""

    kind: Literal["proximal"]
    mu: float = Field(ge=0, allow_inf_nan=False)


class ControlVariates(_Correction):
    """Correct for the drift of the site's own data."""

    kind: Literal["control-variates"]


class DynamicRegularisation(_Correction):
    """Align the optima of all sites with the global one."""

    kind: Literal["dynamic"]
    alpha: float = Field(gt=0, allow_inf_nan=False)


Correction = Annotated[
    NoCorrection | Proximal | ControlVariates | DynamicRegularisation, Field(discriminator="kind")
]


class LocalWork(BaseModel):
    """What a strategy asks of a site beside a delta."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    correction: Correction = NoCorrection()
    scalars: list[Scalar] = Field(default_factory=list[Scalar], max_length=8)

    @property
    def parts(self) -> tuple[str, ...]:
        """The files that go with a delta, each laid out like the floats that are uploaded."""
        return (CONTROL,) if isinstance(self.correction, ControlVariates) else ()

    @property
    def slots(self) -> tuple[str, ...]:
        """The server's slots that the site has to be sent."""
        return (CONTROL,) if isinstance(self.correction, ControlVariates) else ()

    @property
    def remembers(self) -> bool:
        """Whether the site keeps something of its own from round to round."""
        return isinstance(self.correction, (ControlVariates, DynamicRegularisation))
