"""`hansa federation retention ...`: what a federation keeps of its runs."""

from typing import Annotated

import typer

from hansa.cli.output import JsonFlag, bytes_of, print_fields, print_json, say
from hansa.cli.settings import FederationOption, chosen_federation, connect
from hansa_core import wire

app = typer.Typer(no_args_is_help=True, help="What a federation keeps of its runs.")


@app.command("show")
def show_retention(federation: FederationOption = None, *, as_json: JsonFlag = False) -> None:
    """Show the policy in force and what it would delete now."""
    with connect() as client:
        found = client.preview_retention(chosen_federation(client, federation))
    _print(found, as_json=as_json)


@app.command("set")
def set_retention(
    federation: FederationOption = None,
    updates_days: Annotated[
        float | None, typer.Option(min=0, help="Keep updates so long after their round closed.")
    ] = None,
    updates_rounds: Annotated[
        int | None, typer.Option(min=0, help="Keep the updates of each run's newest N rounds.")
    ] = None,
    checkpoints_every: Annotated[
        int | None, typer.Option(min=1, help="Keep each n-th of a run's checkpoints, and the last.")
    ] = None,
    events_days: Annotated[
        float | None, typer.Option(min=1, help="Keep the events of ended runs so long.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be deleted; change nothing.")
    ] = False,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Replace the policy. What no option speaks of is kept for ever; without any, everything.

    What a held receipt or a run that is not over needs is never deleted.
    """
    policy = wire.Retention(
        updates_days=updates_days,
        updates_rounds=updates_rounds,
        checkpoints_every=checkpoints_every,
        events_days=events_days,
    )
    with connect() as client:
        chosen = chosen_federation(client, federation)
        found = client.preview_retention(chosen, policy)
        if not dry_run:
            client.change_federation(chosen, wire.FederationChange(retention=policy))
    _print(found, as_json=as_json)
    if not as_json:
        say("nothing was changed" if dry_run else "the policy is in force; it is applied hourly")


def _print(found: wire.RetentionPreview, *, as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    policy = found.policy
    print_fields(
        (
            ("updates", _rules(("days", policy.updates_days), ("rounds", policy.updates_rounds))),
            ("checkpoints", _rules(("each n-th", policy.checkpoints_every))),
            ("events", _rules(("days", policy.events_days))),
            ("would go: updates", _amount(found.updates, found.updates_bytes)),
            ("would go: checkpoints", _amount(found.checkpoints, found.checkpoints_bytes)),
            ("would go: never used", _amount(found.unreferenced, found.unreferenced_bytes)),
            ("would go: events", found.events),
        )
    )


def _rules(*rules: tuple[str, float | None]) -> str:
    named = [f"{name}: {value:g}" for name, value in rules if value is not None]
    return "kept by " + ", ".join(named) if named else "kept for ever"


def _amount(count: int, size: int) -> str:
    return f"{count}, {bytes_of(size)}"
