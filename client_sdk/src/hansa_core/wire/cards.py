"""Messages about where models come from: a checkpoint's card, and a model's lineage."""

from datetime import datetime
from uuid import UUID

from hansa_core.plans import RunPlan
from hansa_core.states import RunState
from hansa_core.wire.base import Digest, Response
from hansa_core.wire.resources import Checkpoint


class CardMetric(Response):
    """A mean over sites, weighted by examples."""

    kind: str  # "train": local training; "eval": a checkpoint on held-out data
    name: str
    value: float
    num_examples: int
    round_number: int  # of the checkpoint that it describes; 0 the base of a run


class CardStep(Response):
    """A checkpoint that another one comes from."""

    checkpoint_id: UUID
    digest: Digest
    run_id: UUID | None  # None: it was uploaded
    run_name: str | None
    round_number: int | None
    created_at: datetime


class ModelCard(Response):
    """What there is to know of one checkpoint: what it is, who made it, how good it is."""

    federation: str  # slug
    model: str
    description: str
    checkpoint: Checkpoint
    parameters: int | None
    tensors: int | None
    made_by: str | None  # the run's name; None: it was uploaded
    run_id: UUID | None
    round_number: int | None
    plan: RunPlan | None
    sites: int  # whose updates counted in the run, up to this round
    examples: int | None  # that the updates of this round were trained on; None: not known
    metrics: list[CardMetric]  # of this checkpoint
    receipt: Digest | None  # of the round that made it
    secure: bool  # no single update was seen by the hub
    lineage: list[CardStep]  # what it comes from, nearest first
    lineage_more: bool  # it goes further back than that


class LineageRun(Response):
    """What one run made of a model; or a checkpoint that somebody uploaded (`run_id` None)."""

    run_id: UUID | None
    run_name: str | None
    state: RunState | None
    from_checkpoint_id: UUID | None
    from_run_id: UUID | None  # None: from an uploaded checkpoint, or from nothing
    from_round: int | None
    first: int  # round whose checkpoint is the first; 0: there is none yet
    last: int
    checkpoints: int
    latest_checkpoint_id: UUID  # of a run that has made none: the one it starts from
    created_at: datetime
    metric: CardMetric | None  # the newest evaluation's loss, or else its first metric by name


class Lineage(Response):
    """A model's runs and uploaded checkpoints, oldest first; edges are their `from_*`."""

    nodes: list[LineageRun]
    more: bool = False  # there are older ones
