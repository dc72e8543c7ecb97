"""`hansa member ...`: who may do what in a federation."""

from typing import Annotated

import typer

from hansa.cli.output import JsonFlag, print_json, print_table, say, when
from hansa.cli.settings import FederationOption, chosen_federation, connect
from hansa_core.states import Role

app = typer.Typer(no_args_is_help=True, help="Who may do what in a federation.")

PersonArgument = Annotated[str, typer.Argument(metavar="EMAIL", help="Email address or id.")]


@app.command("set")
def set_member(
    person: PersonArgument,
    role: Annotated[Role, typer.Argument(help="What they may do.")],
    federation: FederationOption = None,
) -> None:
    """Give a person a role, or another one."""
    with connect() as client:
        member = client.set_member(chosen_federation(client, federation), person, role)
    say(f"{member.email} is {member.role}")


@app.command("list")
def list_members(federation: FederationOption = None, *, as_json: JsonFlag = False) -> None:
    """List a federation's members."""
    with connect() as client:
        found = list(client.members(chosen_federation(client, federation)))
    if as_json:
        print_json(found)
        return
    print_table(
        ("EMAIL", "NAME", "ROLE", "SINCE"),
        ((item.email, item.name, item.role, when(item.created_at)) for item in found),
        empty="no members; add one with `hansa member set EMAIL ROLE`",
    )


@app.command("remove")
def remove_member(person: PersonArgument, federation: FederationOption = None) -> None:
    """Take a person's role away."""
    with connect() as client:
        client.remove_member(chosen_federation(client, federation), person)
    say(f"{person} is no member any more")
