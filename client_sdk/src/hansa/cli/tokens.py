"""`hansa token ...`: API tokens for programs that act for you."""

from typing import Annotated
from uuid import UUID

import typer

from hansa.cli.output import JsonFlag, print_json, print_table, say, when
from hansa.cli.settings import connect
from hansa_core.states import Scope

app = typer.Typer(no_args_is_help=True, help="API tokens for programs that act for you.")


@app.command("create")
def create_token(
    name: Annotated[str, typer.Argument(metavar="NAME", help="What it is for.")],
    scope: Annotated[list[Scope], typer.Option(help="What it may be used for; repeatable.")],
    days: Annotated[float, typer.Option(help="How long it is good for.")] = 90,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Create a token; use it as HANSA_TOKEN, with HANSA_URL."""
    with connect() as client:
        made = client.create_token(name, scope, expires_days=days)
    if as_json:
        print_json(made)
        return
    say(f"token {made.name}, good until {when(made.expires_at)} UTC. Shown once:")
    say("")
    say(f"  {made.token}")


@app.command("list")
def list_tokens(*, as_json: JsonFlag = False) -> None:
    """List your tokens."""
    with connect() as client:
        found = list(client.tokens())
    if as_json:
        print_json(found)
        return
    print_table(
        ("ID", "NAME", "SCOPES", "EXPIRES", "LAST USED"),
        (
            (
                item.id,
                item.name,
                ", ".join(item.scopes),
                when(item.expires_at),
                when(item.last_used_at),
            )
            for item in found
        ),
        empty="no tokens; make one with `hansa token create NAME --scope read`",
    )


@app.command("revoke")
def revoke_token(token_id: Annotated[UUID, typer.Argument(metavar="ID", help="Its id.")]) -> None:
    """Make a token useless."""
    with connect() as client:
        client.delete_token(token_id)
    say("revoked")
