"""`hansa channel ...`: webhooks and e-mail addresses that a federation's events are sent to."""

from typing import Annotated
from uuid import UUID

import typer

from hansa.cli.output import JsonFlag, print_json, print_table, say, when
from hansa.cli.settings import FederationOption, chosen_federation, connect
from hansa_core import wire
from hansa_core.wire import ChannelKind

app = typer.Typer(no_args_is_help=True, help="Webhooks and e-mail, for a federation's owners.")

EventOption = Annotated[
    list[str] | None,
    typer.Option("--event", help='Kind, or prefix as in "alert.*"; repeatable.'),
]
IdArgument = Annotated[UUID, typer.Argument(metavar="ID", help="See `hansa channel list`.")]


@app.command("add-webhook")
def add_webhook(
    url: Annotated[str, typer.Argument(metavar="URL", help="https://...")],
    federation: FederationOption = None,
    event: EventOption = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Send every event (or those chosen) to a URL, signed."""
    made = _add(ChannelKind.WEBHOOK, url, federation, event)
    if as_json:
        print_json(made)
        return
    say(f"webhook {made.id} made. The secret that verifies its messages, shown once:")
    say("")
    say(f"  {made.secret}")


@app.command("add-email")
def add_email(
    address: Annotated[str, typer.Argument(metavar="ADDRESS")],
    federation: FederationOption = None,
    event: EventOption = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Send alerts (or the events chosen) to an e-mail address."""
    made = _add(ChannelKind.EMAIL, address, federation, event)
    if as_json:
        print_json(made)
        return
    say(f"e-mail channel {made.id} made; try it with `hansa channel test {made.id}`")


@app.command("list")
def list_channels(federation: FederationOption = None, *, as_json: JsonFlag = False) -> None:
    """List a federation's channels and how they are doing."""
    with connect() as client:
        found = list(client.notices(chosen_federation(client, federation)).channels())
    if as_json:
        print_json(found)
        return
    print_table(
        ("KIND", "TARGET", "EVENTS", "STATE", "LAST SUCCESS", "ID", "LAST ERROR"),
        (
            (
                item.kind,
                item.target,
                " ".join(item.events),
                "disabled"
                if not item.enabled
                else f"failed {item.failures} times"
                if item.failures
                else "works",
                when(item.last_success_at),
                item.id,
                item.last_error,
            )
            for item in found
        ),
        empty="no channels yet; make one with `hansa channel add-webhook URL`",
    )


@app.command("test")
def try_channel(channel_id: IdArgument, federation: FederationOption = None) -> None:
    """Send a message now. Exit code 1 when it is not taken."""
    with connect() as client:
        result = client.notices(chosen_federation(client, federation)).try_channel(channel_id)
    if not result.delivered:
        say(f"not delivered: {result.error}", style="red")
        raise typer.Exit(1)
    say("delivered")


@app.command("enable")
def enable_channel(channel_id: IdArgument, federation: FederationOption = None) -> None:
    """Go on with a channel where it stopped; a failing one is tried again at once."""
    _change(channel_id, federation, wire.ChannelChange(enabled=True))


@app.command("disable")
def disable_channel(channel_id: IdArgument, federation: FederationOption = None) -> None:
    """Send nothing to a channel until it is enabled."""
    _change(channel_id, federation, wire.ChannelChange(enabled=False))


@app.command("remove")
def remove_channel(channel_id: IdArgument, federation: FederationOption = None) -> None:
    """Forget a channel."""
    with connect() as client:
        client.notices(chosen_federation(client, federation)).remove_channel(channel_id)
    say("removed")


def _add(
    kind: ChannelKind, target: str, federation: str | None, events: list[str] | None
) -> wire.NewChannel:
    with connect() as client:
        message = wire.ChannelCreate(kind=kind, target=target, events=events)
        return client.notices(chosen_federation(client, federation)).create_channel(message)


def _change(channel_id: UUID, federation: str | None, change: wire.ChannelChange) -> None:
    with connect() as client:
        changed = client.notices(chosen_federation(client, federation)).change_channel(
            channel_id, change
        )
    say(f"{changed.kind} channel {changed.id} is {'enabled' if changed.enabled else 'disabled'}")
