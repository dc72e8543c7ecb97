"""What a plan would do, before there is a run."""

from uuid import UUID

from pydantic import Field

from hansa_core.plans import RunPlan
from hansa_core.wire.base import Digest, Request, Response
from hansa_core.wire.resources import Exclusion
from hansa_core.wire.sites import CheckpointRef

MOST_SITE_NAMES = 1000  # in a preview


class RunPreviewRequest(Request):
    plan: RunPlan
    checkpoint_id: UUID | None = None  # the base; None is the model's newest checkpoint


class RunPreview(Response):
    """What would happen if a run of this plan were started now.

    Bytes are those of model files: checkpoints to sites, updates with their parts from them, as if
    nobody failed, came late or was asked again. What else passes (messages, signatures, the keys
    and shares of secure rounds) is small and not counted.
    """

    plan: RunPlan  # with all defaults
    plan_digest: Digest
    checkpoint: CheckpointRef  # that it would start from
    eligible: int  # sites that are online and fit the plan
    asked: int  # tasks of the first round; while it waits, of the smallest that it waits for
    site_names: list[str] = Field(max_length=MOST_SITE_NAMES)  # who would be asked, by name
    excluded: list[Exclusion]  # who would not, and why
    waits_for: str | None  # what the first round would wait for; None: nothing
    bytes_down: int  # to one site that trains, in one round
    bytes_up: int  # from one site that trains, in one round: the one that sends most
    bytes_per_round: int  # to and from all sites, in a round like the first
    bytes_total: int  # of all rounds, with their evaluations
    seconds_per_round: float | None  # None: nothing is known
    seconds_total: float | None  # of all training rounds; None: nothing is known
    estimated_from: str | None  # what the times rest on, in words
    warnings: list[str]  # what is allowed, and probably not meant
