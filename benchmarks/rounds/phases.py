"""Where a round's time went: the hub's rows and the sites' traces, put in one order.

A round is cut along the site that brought its update last, because everybody waits for that
one: from the round's row to the next round's row the phases leave no gap and do not overlap.
"""

import itertools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hansa_core import wire


@dataclass(frozen=True, slots=True)
class Phase:
    """One stretch of a round."""

    name: str
    begins: str  # the moment it begins with; it ends where the next one begins
    copies: str  # bytes that move in it, as a multiple of a model's: "N" is one for each site


# In order. Moments starting with "hub." are the hub's own, the others are the site's.
PHASES = (
    Phase("round row -> task claimed", "hub.opened", ""),
    Phase("download, hash", "task_claimed", "N"),
    Phase("load the model", "downloaded", "N"),
    Phase("train (next to nothing)", "train_began", ""),
    Phase("delta: write, hash, sign", "trained", "N"),
    Phase("upload, check, fsync", "delta_stored", "N"),
    Phase("submit -> step decides", "delta_uploaded", ""),
    Phase("aggregate, store, record", "hub.aggregating", "N+2"),
)
END = "hub.next"

Moments = Mapping[str, float]  # name of a moment -> Unix seconds


def read_traces(paths: Iterable[Path]) -> dict[str, list[Moments]]:
    """Return the sites' moments by task id. One task may have been done once only."""
    tasks: dict[str, list[Moments]] = {}
    for path in paths:
        moments: dict[str, float] = {}
        for line in path.read_text().splitlines():
            told: dict[str, Any] = json.loads(line)
            if told["kind"] == "task_claimed":
                moments = {}
                tasks.setdefault(str(told["task_id"]), []).append(moments)
            moments.setdefault(told["kind"], told["at"])
    return tasks


def cut(
    rounds: Sequence[wire.RoundDetail],
    events: Iterable[wire.Event],
    tasks: Mapping[str, Sequence[Moments]],
) -> list[list[float]]:
    """Return the seconds of every phase, for each round but the last one.

    Raises:
        KeyError: a round or a site did not reach a phase.
    """
    aggregating = {
        event.data["round_number"]: event.at.timestamp()
        for event in events
        if event.kind == "round.aggregating"
    }
    return [
        _cut_round(row, following, aggregating[row.number], tasks)
        for row, following in itertools.pairwise(rounds)
    ]


def _cut_round(
    row: wire.RoundDetail,
    following: wire.RoundDetail,
    aggregating: float,
    tasks: Mapping[str, Sequence[Moments]],
) -> list[float]:
    done = [moments for task in row.tasks for moments in tasks[str(task.id)]]
    last = max(done, key=lambda moments: moments["delta_uploaded"])
    moments = {
        **last,
        "hub.opened": row.created_at.timestamp(),
        "hub.aggregating": aggregating,
        END: following.created_at.timestamp(),
    }
    marks = [moments[name] for name in (*(phase.begins for phase in PHASES), END)]
    return [end - begin for begin, end in itertools.pairwise(marks)]
