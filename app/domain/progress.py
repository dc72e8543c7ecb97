"""Saying what an open round waits for, in a sentence. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.domain.cohorts import first_names, last_seen
from hansa_core.states import RoundState, TaskState


@dataclass(frozen=True, slots=True)
class Part:
    """A site's part in an open round."""

    site_name: str
    last_seen_at: datetime | None
    state: TaskState
    progress: Mapping[str, Any] | None  # wire.Progress as JSON
    evaluator: bool = False  # no part of what the round wants


def describe_round(
    *,
    number: int,
    rounds: int,
    state: RoundState,
    wanted: int | None,
    parts: Sequence[Part],
    now: datetime,
) -> str:
    """Return "round 3 of 10: 2 of 3 answers, waiting for st-mary (training 40 %)"."""
    which = f"round {number} of {rounds}" if number <= rounds else "the final evaluation"
    asked = [part for part in parts if not part.evaluator]
    answered = sum(part.state is TaskState.DONE for part in asked)
    match state:
        case RoundState.SETUP:
            return f"{which}: the sites agree on a roster"
        case RoundState.SIGNING:
            return f"{which}: the committee signs which of {answered} updates the sum is of"
        case RoundState.OPENING:
            return f"{which}: the committee opens the sum"
        case RoundState.AGGREGATING:
            return f"{which}: combining {answered} updates"
        case _:
            pass
    waiting = [_doing(part, now) for part in parts if part.state in _UNFINISHED]
    count = f"{which}: {answered} of {wanted or len(asked)} answers"
    return f"{count}, waiting for {first_names(waiting)}" if waiting else count


_UNFINISHED = (TaskState.OPEN, TaskState.CLAIMED)


def _doing(part: Part, now: datetime) -> str:
    if part.state is TaskState.OPEN:
        return f"{part.site_name} ({last_seen(part.last_seen_at, now)})"
    if part.progress is None:
        return f"{part.site_name} (has begun)"
    return f"{part.site_name} ({part.progress['phase']} {part.progress['fraction']:.0%})"
