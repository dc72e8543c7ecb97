"""What a strategy is: settings with the decisions that follow from them, all pure.

A strategy is a section of a plan, told by `name`. It decides
- what sites do beside training (`local_work`);
- how the deltas of a round become one (`combine`, by a rule of hansa_core.aggregation);
- how that one becomes a step of the model (`server_step`), and which state of the server's own
  goes with every checkpoint (its slots).

A package adds one by an entry point of the group `hansa.strategies` that names a subclass
(registry.py). Invariants: methods are pure, and depend on the settings and their arguments alone;
defaults never change, since plans are named by what differs from them; `version` changes whenever
the same updates would give other bytes.
"""

import json
from abc import ABC, abstractmethod
from typing import ClassVar

from pydantic import BaseModel, JsonValue

from hansa_core.aggregation.inputs import Inputs
from hansa_core.aggregation.outputs import Combine
from hansa_core.aggregation.steps import ServerStep
from hansa_core.local_work import LocalWork
from hansa_core.secagg.terms import Weighing


class Strategy(BaseModel, ABC, extra="forbid", frozen=True):
    """The interface of every strategy."""

    version: ClassVar[int] = 1
    buffered: ClassVar[bool] = False  # scales updates by their staleness
    counts_population: ClassVar[bool] = False  # needs to know how many sites there are
    # How its one delta follows from a sum over sites; None: it has to see each update.
    weighing: ClassVar[Weighing | None] = None

    name: str  # narrowed to a Literal by every subclass

    @abstractmethod
    def combine(self, inputs: Inputs, *, tile_bytes: int) -> Combine:
        """Return how these deltas become one.

        Raises AggregationError where they are too few or a setting does not suit them, and
        UpdateRefusedError for an update that the rule cannot take.
        """

    def server_step(self) -> ServerStep | None:
        """Return what turns the combined delta into a step; None adds it as it is."""
        return None

    def local_work(self) -> LocalWork:
        """Return what sites do beside training."""
        return LocalWork()

    def cohort_problem(self, min_sites: int, size: int | None) -> str | None:
        """Say why rounds of `min_sites` to `size` updates do not suit the strategy, or None.

        `size` None: no upper limit is known.
        """
        del min_sites, size
        return None

    def settings(self) -> dict[str, JsonValue]:
        """Return what it is set to, defaults included, by name and in the order of the fields."""
        return self.model_dump(mode="json", exclude={"name"})

    @property
    def root_site(self) -> str | None:
        """The site whose update the strategy trusts, if it trusts any."""
        return None

    @property
    def state_kind(self) -> str:
        """What the server's slots are of: they are taken over by the same kind alone."""
        return f"{self.name}/{self.version}"

    def rule_name(self) -> str:
        """Return what receipts call it, with all its settings."""
        settings = "".join(f" {key}={json.dumps(it)}" for key, it in self.settings().items())
        return f"{self.name}/{self.version}{settings}"
