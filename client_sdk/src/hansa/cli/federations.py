"""`hansa federation ...`: the federations that you may see."""

from typing import Annotated

import typer

from hansa.cli import retention
from hansa.cli.output import JsonFlag, print_fields, print_json, print_table, say, when
from hansa.cli.settings import (
    FederationOption,
    chosen_federation,
    connect,
    load_config,
    save_config,
)
from hansa_core import wire

app = typer.Typer(no_args_is_help=True, help="Federations.")
app.add_typer(retention.app, name="retention")


@app.command("list")
def list_federations(*, as_json: JsonFlag = False) -> None:
    """List the federations that you may see."""
    with connect() as client:
        found = list(client.federations())
    if as_json:
        print_json(found)
        return
    default = load_config().federation
    print_table(
        ("", "SLUG", "NAME", "MY ROLE", "APPROVAL", "CREATED"),
        (
            (
                "*" if default in {item.slug, str(item.id)} else " ",
                item.slug,
                item.name,
                item.my_role,
                "needed" if item.requires_approval else "not needed",
                when(item.created_at),
            )
            for item in found
        ),
        empty="no federation yet; an administrator makes one with `hansa federation create`",
    )


@app.command("create")
def create_federation(
    slug: Annotated[str, typer.Argument(help="Short name: lower case, digits, '-'.")],
    name: Annotated[str | None, typer.Option(help="Name for people.")] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    approval: Annotated[
        bool, typer.Option(help="Whether an operator approves each new site.")
    ] = True,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Create a federation."""
    with connect() as client:
        made = client.create_federation(
            wire.FederationCreate(
                slug=slug, name=name or slug, description=description, requires_approval=approval
            )
        )
    if as_json:
        print_json(made)
    else:
        say(f"created federation {made.slug}")


@app.command("show")
def show_federation(federation: FederationOption = None, *, as_json: JsonFlag = False) -> None:
    """Show a federation and its members."""
    with connect() as client:
        found = client.federation(chosen_federation(client, federation))
        members = list(client.members(found.slug))
    if as_json:
        print_json(found)
        return
    print_fields(
        (
            ("federation", found.slug),
            ("name", found.name),
            ("description", found.description),
            ("id", found.id),
            ("my role", found.my_role),
            ("new sites", "wait for approval" if found.requires_approval else "take part at once"),
        )
    )
    print_table(
        ("MEMBER", "NAME", "ROLE"),
        ((member.email, member.name, member.role) for member in members),
        empty="no members",
    )


@app.command("use")
def use_federation(slug: Annotated[str, typer.Argument(help="Slug or id.")]) -> None:
    """Make a federation the default of all commands."""
    with connect() as client:
        found = client.federation(slug)
    save_config(load_config().model_copy(update={"federation": found.slug}))
    say(f"{found.slug} is the default now")
