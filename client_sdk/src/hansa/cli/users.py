"""`hansa user ...`: the people of a hub, for its administrators."""

import sys
from typing import Annotated

import typer
from pydantic import SecretStr

from hansa.cli.output import JsonFlag, print_json, print_table, say, when
from hansa.cli.settings import connect
from hansa_core import wire

app = typer.Typer(no_args_is_help=True, help="The people of a hub, for its administrators.")


@app.command("create")
def create_user(
    email: Annotated[str, typer.Argument(metavar="EMAIL", help="What they sign in with.")],
    name: Annotated[str, typer.Option(help="Name for people.")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
    admin: Annotated[bool, typer.Option("--admin", help="Make them an administrator.")] = False,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Create a person; `hansa member set` then gives them a role in a federation."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    else:
        password = typer.prompt("Password", hide_input=True, confirmation_prompt=True)
    message = wire.UserCreate(email=email, name=name, password=SecretStr(password), is_admin=admin)
    with connect() as client:
        made = client.create_user(message)
    if as_json:
        print_json(made)
        return
    say(f"created {made.email}")


@app.command("list")
def list_users(*, as_json: JsonFlag = False) -> None:
    """List everybody."""
    with connect() as client:
        found = list(client.users())
    if as_json:
        print_json(found)
        return
    print_table(
        ("EMAIL", "NAME", "ADMIN", "CREATED", "DISABLED"),
        (
            (
                user.email,
                user.name,
                "yes" if user.is_admin else "no",
                when(user.created_at),
                when(user.disabled_at),
            )
            for user in found
        ),
        empty="nobody",
    )
