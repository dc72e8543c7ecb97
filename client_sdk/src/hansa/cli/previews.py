"""`hansa run preview`: what a plan would do on this hub, before there is a run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from hansa.cli.output import JsonFlag, bytes_of, print_fields, print_json, print_table, say
from hansa.cli.plans import read_plan
from hansa.cli.settings import FederationOption, chosen_federation, connect
from hansa_core import wire

_UNITS = ((86400, "d"), (3600, "h"), (60, "min"))  # seconds of each


def preview_run(
    plan: Annotated[Path, typer.Argument(help="The plan, TOML or JSON.")],
    federation: FederationOption = None,
    checkpoint: Annotated[
        UUID | None, typer.Option(help="Base, instead of the model's newest checkpoint.")
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Say whom a run of the plan would ask, what it moves and how long it may take."""
    parsed = read_plan(plan)
    with connect() as client:
        slug = chosen_federation(client, federation)
        told = client.preview_run(slug, parsed, checkpoint_id=checkpoint)
    if as_json:
        print_json(told)
        return
    print_fields(_fields(told))
    if told.excluded:
        say("")
        rows = ((it.site, it.reason) for it in told.excluded)
        print_table(("NOT ASKED", "REASON"), rows, empty="")
    if told.warnings:
        say("")
    for warning in told.warnings:
        say(f"warning: {warning}", style="yellow")


def lasting(seconds: float | None) -> str:
    """Return a span of time for people, to two or three digits."""
    if seconds is None:
        return "not known"
    for size, unit in _UNITS:
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.3g} s"


def _fields(told: wire.RunPreview) -> Iterator[tuple[str, object]]:
    yield "run", told.plan.name
    yield "plan", told.plan_digest
    yield "base checkpoint", f"{told.checkpoint.id} ({bytes_of(told.checkpoint.size)})"
    yield "sites that fit", told.eligible
    yield "asked", told.asked
    yield "of these by name", ", ".join(told.site_names)
    if told.waits_for is not None:
        yield "waits for", told.waits_for
    yield "to a site, a round", bytes_of(told.bytes_down)
    yield "from a site, a round", bytes_of(told.bytes_up)
    yield "of a round", bytes_of(told.bytes_per_round)
    yield "of all rounds", bytes_of(told.bytes_total)
    yield "a round takes", lasting(told.seconds_per_round)
    yield "all rounds take", lasting(told.seconds_total)
    if told.estimated_from is not None:
        yield "estimated from", told.estimated_from
