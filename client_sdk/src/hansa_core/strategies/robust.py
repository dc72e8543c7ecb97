"""Strategies that withstand sites which send anything. The kernel of each cites its paper.

None weighs by examples but norm-clipping: how many there are is what a site says of itself.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from hansa_core.aggregation.bulyan import bulyan
from hansa_core.aggregation.centres import centred_clipping, geometric_median
from hansa_core.aggregation.clipping import clipped_mean
from hansa_core.aggregation.inputs import Inputs
from hansa_core.aggregation.krum import MOST_UPDATES, krum, least_updates
from hansa_core.aggregation.medians import coordinate_median, trimmed_count, trimmed_mean
from hansa_core.aggregation.outputs import Combine
from hansa_core.aggregation.trust import trusted
from hansa_core.names import Name
from hansa_core.problems import AggregationError
from hansa_core.strategies.base import Strategy

Length = Annotated[
    float, Field(ge=1e-12, le=1e12, description="an L2 norm over all float tensors together")
]
Iterations = Annotated[
    int, Field(ge=1, le=100, description="passes over the updates; more come closer")
]
Byzantine = Annotated[int, Field(ge=0, le=1000, description="sites that may send anything (f)")]


class MedianPlan(Strategy, frozen=True):
    """The coordinate-wise median of deltas (Yin et al. 2018).

    For up to half of the sites hostile or broken; slower to learn where sites' data differ.
    """

    name: Literal["median"] = Field(description="the strategy")

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Take the middle of each element."""
        del tile_bytes
        return coordinate_median(inputs)


class TrimmedMeanPlan(Strategy, frozen=True):
    """The coordinate-wise mean without the least and the greatest values (Yin et al. 2018).

    For a known share of hostile sites: less is lost than with the median.
    """

    name: Literal["trimmed-mean"] = Field(description="the strategy")
    trim: float = Field(ge=0, lt=0.5, description="fraction of the sites taken off at each end")

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Take both ends off each element."""
        del tile_bytes
        return trimmed_mean(inputs, trim=self.trim)

    def cohort_problem(self, min_sites: int, size: int | None) -> str | None:
        """Refuse rounds of which nobody would be taken off."""
        del size
        if self.trim and not trimmed_count(min_sites, self.trim):
            return (
                f"trim {self.trim} of min_sites {min_sites} takes off nobody: "
                "the round would be a plain mean"
            )
        return None


class KrumPlan(Strategy, frozen=True):
    """The one update closest to its neighbours (Blanchard et al. 2017).

    For f hostile among 2f + 3 sites or more with similar data; the others' work is not used.
    """

    name: Literal["krum"] = Field(description="the strategy")
    byzantine: Byzantine

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Choose one."""
        return krum(inputs, byzantine=self.byzantine, tile_bytes=tile_bytes)

    def cohort_problem(self, min_sites: int, size: int | None) -> str | None:
        """Refuse rounds that are too small or too large."""
        return _comparing_problem(self.name, self.byzantine, min_sites, size, factor=2)


class MultiKrumPlan(Strategy, frozen=True):
    """The mean of the updates closest to their neighbours (Blanchard et al. 2017).

    Like krum, but more than one site's work is used.
    """

    name: Literal["multi-krum"] = Field(description="the strategy")
    byzantine: Byzantine
    keep: int = Field(ge=1, le=MOST_UPDATES, description="updates that the mean is of (m)")

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Choose `keep`."""
        return krum(inputs, byzantine=self.byzantine, keep=self.keep, tile_bytes=tile_bytes)

    def cohort_problem(self, min_sites: int, size: int | None) -> str | None:
        """Refuse rounds that are too small, too large, or have fewer than `keep` to choose."""
        problem = _comparing_problem(self.name, self.byzantine, min_sites, size, factor=2)
        most = min_sites - self.byzantine - 2
        if problem is None and self.keep > most:
            return (
                f"multi-krum with byzantine {self.byzantine} and min_sites {min_sites} can keep "
                f"{most} (min_sites - byzantine - 2), got keep {self.keep}"
            )
        return problem


class BulyanPlan(Strategy, frozen=True):
    """A trimmed mean of what Krum chooses (El Mhamdi, Guerraoui and Rouault 2018).

    Against attacks hidden in a few elements, for f hostile among 4f + 3 sites or more.
    """

    name: Literal["bulyan"] = Field(description="the strategy")
    byzantine: Byzantine

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Choose, then take the values around each element's median."""
        return bulyan(inputs, byzantine=self.byzantine, tile_bytes=tile_bytes)

    def cohort_problem(self, min_sites: int, size: int | None) -> str | None:
        """Refuse rounds that are too small or too large."""
        return _comparing_problem(self.name, self.byzantine, min_sites, size, factor=4)


class GeometricMedianPlan(Strategy, frozen=True):
    """The smoothed geometric median, RFA (Pillutla et al. 2022).

    For up to half of the sites hostile or broken, without a number to be known beforehand.
    """

    name: Literal["geometric-median"] = Field(description="the strategy")
    iterations: Iterations = 8
    smoothing: Length = 1e-6

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Iterate towards the point of least total distance."""
        return geometric_median(
            inputs, iterations=self.iterations, smoothing=self.smoothing, tile_bytes=tile_bytes
        )


class CentredClippingPlan(Strategy, frozen=True):
    """Steps towards all deltas, none longer than the radius (Karimireddy et al. 2021).

    Against small attacks that add up over rounds; the radius should fit honest updates.
    """

    name: Literal["centred-clipping"] = Field(description="the strategy")
    radius: Length
    iterations: Iterations = 3

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Move the centre by clipped steps."""
        return centred_clipping(
            inputs, radius=self.radius, iterations=self.iterations, tile_bytes=tile_bytes
        )


class NormClippingPlan(Strategy, frozen=True):
    """The weighted mean of deltas shortened to a bound (Sun et al. 2019).

    Against single sites that shout; good against nothing finer.
    """

    buffered: ClassVar[bool] = True

    name: Literal["norm-clipping"] = Field(description="the strategy")
    bound: Length

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Shorten, then weigh by examples."""
        return clipped_mean(inputs, bound=self.bound, tile_bytes=tile_bytes)


class FLTrustPlan(Strategy, frozen=True):
    """Updates weighed by how they agree with a trusted site's (Cao et al. 2021).

    For one site whose data is known to be clean, be all others as they may.
    """

    name: Literal["fltrust"] = Field(description="the strategy")
    root: Name = Field(description="the site whose data is trusted; pinned in every round")

    @property
    def root_site(self) -> str | None:
        """Its root."""
        return self.root

    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Score every update against the root's."""
        roots = [index for index, it in enumerate(inputs.contributions) if it.root]
        if len(roots) != 1:
            raise AggregationError(
                f"fltrust needs the update of its root site {self.root}, got {len(roots)} of them"
            )
        return trusted(inputs, root=roots[0], tile_bytes=tile_bytes)


def _comparing_problem(
    name: str, byzantine: int, min_sites: int, size: int | None, *, factor: int
) -> str | None:
    """Say why rounds do not suit a rule that compares every two of factor * f + 3 updates."""
    least = least_updates(byzantine, factor)
    if min_sites < least:
        return (
            f"{name} with byzantine {byzantine} needs min_sites {least} "
            f"({factor} * byzantine + 3), got {min_sites}"
        )
    if size is not None and size > MOST_UPDATES:
        return f"{name} compares every two updates: size {size} is above {MOST_UPDATES}"
    return None
