"""`hansa alert ...`: what needs somebody's attention in a federation."""

from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from hansa.cli.output import JsonFlag, ago, print_json, print_table, say
from hansa.cli.settings import FederationOption, chosen_federation, connect

app = typer.Typer(no_args_is_help=True, help="What needs attention.")


@app.command("list")
def list_alerts(
    federation: FederationOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Resolved ones as well.")] = False,
    *,
    as_json: JsonFlag = False,
) -> None:
    """List the open alerts, newest first."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        found = list(client.notices(slug).alerts(is_open=None if everything else True))
    if as_json:
        print_json(found)
        return
    now = datetime.now(UTC)
    print_table(
        ("ALERT", "SEVERITY", "SUBJECT", "SINCE", "TIMES", "STATE", "ID", "MESSAGE"),
        (
            (
                item.kind,
                item.severity,
                item.subject,
                ago(item.raised_at, now),
                item.count,
                "resolved"
                if item.resolved_at
                else f"seen by {item.acknowledged_by}"
                if item.acknowledged_at
                else "open",
                item.id,
                item.message,
            )
            for item in found
        ),
        empty="no alerts" if everything else "no open alerts",
    )


@app.command("ack")
def acknowledge(
    alert_id: Annotated[UUID, typer.Argument(metavar="ID", help="See `hansa alert list`.")],
    federation: FederationOption = None,
) -> None:
    """Say that you look after an alert; one about something that happened is resolved by that."""
    with connect() as client:
        alert = client.notices(chosen_federation(client, federation)).acknowledge(alert_id)
    state = "resolved" if alert.resolved_at else "open until its cause ends"
    say(f"{alert.kind}, {alert.subject}: seen by {alert.acknowledged_by}, {state}")
