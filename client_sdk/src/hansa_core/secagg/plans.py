"""The secure section of a run's plan, and the terms that its sites agree on.

Invariants: defaults never change, since plans are named by what differs from them.
"""

from pydantic import BaseModel, ConfigDict, Field

from hansa_core.names import Name
from hansa_core.secagg.masks import Suite
from hansa_core.secagg.terms import QuantiserPlan, SummedMetrics, Weighing

LEAST_SITES = 3  # with two, a sum tells each of them the other's update


class SecurePlan(BaseModel):
    """Secure aggregation: the hub learns sums over sites, and no site's own numbers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    quantiser: QuantiserPlan = Field(
        default=QuantiserPlan(), description="how updates become integers that are added"
    )
    metrics: SummedMetrics = Field(
        default=SummedMetrics(), description="which metrics are summed; others stay at the site"
    )
    min_survivors: int | None = Field(
        default=None,
        ge=LEAST_SITES,
        le=10_000,
        description="fewest updates in a sum; never below two thirds of a round's sites",
    )
    suite: Suite = Field(
        default=Suite.AES,
        description="what masks are made with; chacha20 where processors lack AES instructions",
    )
    site_metrics: bool = Field(
        default=False, description="let the hub see each site's metrics and number of examples"
    )
    setup_seconds: float = Field(
        default=600, gt=0, le=30 * 86400, description="for each of the two polls of a set-up"
    )
    opening_seconds: float = Field(
        default=86400, gt=0, le=30 * 86400, description="for the committee to sign and to open"
    )
    roster_rounds: int = Field(
        default=100, ge=1, le=10_000, description="rounds after which sites make new keys"
    )


class Terms(BaseModel):
    """What every site of a secure run agrees to with its signature of the roster."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    quantiser: QuantiserPlan
    metrics: SummedMetrics
    weighing: Weighing
    scalars: list[Name] = Field(max_length=8)  # of the strategy, summed with the updates
    min_survivors: int | None  # fewest updates in a sum, however few a round's participants are
    suite: Suite
    site_metrics: bool
