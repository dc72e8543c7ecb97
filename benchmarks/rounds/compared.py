"""Rounds of several plans by turns on one running stack: what one costs beside another."""

import itertools
import statistics
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.rounds.site import Config, initial_tensors
from benchmarks.rounds.stack import (
    FEDERATION,
    BenchmarkError,
    Stack,
    await_true,
    running_sites,
    running_stack,
)
from hansa.client import ENDED
from hansa.journal import store_tensors
from hansa_core.plans import parse_plan
from hansa_core.states import RunState

MODEL = "shifted"
RUN_SECONDS = 900.0


def compare_rounds(
    *,
    sites: int,
    megabytes: float,
    rounds: int,
    plans: Mapping[str, Mapping[str, Any]],
    where: Path | None,
) -> dict[str, float]:
    """Return the median seconds of a round of each plan, after a warm-up round of each.

    `plans`: the sections that differ, by the name of the comparison.

    Raises:
        BenchmarkError: a process does not start, or a run does not complete in time.
    """
    with running_stack(where) as stack:
        path = stack.folder / "initial.safetensors"
        store_tensors(path, initial_tensors(Config(megabytes=megabytes), seed=7))
        stack.client.create_model(FEDERATION, MODEL)
        stack.client.upload_checkpoint(FEDERATION, MODEL, path)
        path.unlink()
        with running_sites(stack, sites):
            return {
                name: statistics.median(_seconds(stack, name, sections, sites, megabytes, rounds))
                for name, sections in plans.items()
            }


def _seconds(
    stack: Stack,
    name: str,
    sections: Mapping[str, Any],
    sites: int,
    megabytes: float,
    rounds: int,
) -> list[float]:
    """Run a plan; return the seconds from round to round without the first."""
    plan = parse_plan(
        {
            "name": name,
            "model": MODEL,
            "rounds": rounds + 2,
            "cohort": {"min_sites": sites},
            "evaluation": {"every": 0, "final": False},
            "training": {"megabytes": megabytes},
            **sections,
        }
    )
    client = stack.client
    run = client.create_run(FEDERATION, plan)
    await_true(
        lambda: client.run(FEDERATION, run.id).state in ENDED,
        f"end of the {name} run",
        RUN_SECONDS,
        every_seconds=1.0,
    )
    ended = client.run(FEDERATION, run.id)
    if ended.state is not RunState.COMPLETED:
        raise BenchmarkError(f"the {name} run is {ended.state}: {ended.state_reason}")
    began = [row.created_at.timestamp() for row in client.rounds(FEDERATION, run.id)]
    return [later - earlier for earlier, later in itertools.pairwise(sorted(began))][1:]
