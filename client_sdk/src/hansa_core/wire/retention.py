"""What a federation keeps of its runs, and what a policy would delete."""

from pydantic import Field

from hansa_core.wire.base import Request, Response

MAX_DAYS = 36_500
MAX_ROUNDS = 1_000_000


class Retention(Request):
    """What is kept; a field that is None deletes nothing. The default keeps everything.

    Never deleted, whatever is said here: what a held receipt needs (its round's updates, base and
    checkpoint), what a run that is not over needs, and what people uploaded as checkpoints.
    """

    updates_days: float | None = Field(
        default=None, ge=0, le=MAX_DAYS, description="keep updates so long after their round closed"
    )
    # With both, an update goes when both let it go.
    updates_rounds: int | None = Field(
        default=None, ge=0, le=MAX_ROUNDS, description="keep updates of each run's newest N rounds"
    )
    checkpoints_every: int | None = Field(
        default=None,
        ge=1,
        le=MAX_ROUNDS,
        description="of a run's checkpoints keep each n-th, the last, and those runs start from",
    )
    events_days: float | None = Field(
        default=None, ge=1, le=MAX_DAYS, description="keep the events of ended runs so long"
    )


class RetentionPreview(Response):
    """What a policy would delete if it were applied now."""

    policy: Retention
    updates: int
    updates_bytes: int
    checkpoints: int
    checkpoints_bytes: int
    unreferenced: int  # artifacts that were uploaded and never used: deleted under any policy
    unreferenced_bytes: int
    events: int
