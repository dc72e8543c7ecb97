"""`hansa invitation ...`: letting sites into a federation."""

from typing import Annotated
from uuid import UUID

import typer

from hansa.cli.output import JsonFlag, pairs, print_json, print_table, say, when
from hansa.cli.settings import FederationOption, chosen_federation, connect, parse_labels
from hansa_core import wire

app = typer.Typer(no_args_is_help=True, help="Invitations for sites.")


@app.command("create")
def create_invitation(
    federation: FederationOption = None,
    uses: Annotated[int, typer.Option(min=1, help="How many sites may redeem it.")] = 1,
    hours: Annotated[float, typer.Option(help="How long it is good for.")] = 72,
    label: Annotated[
        list[str] | None, typer.Option(help="key=value, put on every site that redeems it.")
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Create an invitation and print what the site's operator types."""
    message = wire.InvitationCreate(max_uses=uses, expires_hours=hours, labels=parse_labels(label))
    with connect() as client:
        made = client.create_invitation(chosen_federation(client, federation), message)
    if as_json:
        print_json(made)
        return
    say(f"invitation for {made.max_uses} site(s), good until {when(made.expires_at)} UTC")
    say("Shown once. At the site, run:")
    say("")
    say(f"  {made.command}")


@app.command("list")
def list_invitations(federation: FederationOption = None, *, as_json: JsonFlag = False) -> None:
    """List invitations."""
    with connect() as client:
        found = list(client.invitations(chosen_federation(client, federation)))
    if as_json:
        print_json(found)
        return
    print_table(
        ("ID", "USES", "LABELS", "EXPIRES", "REVOKED"),
        (
            (
                item.id,
                f"{item.uses}/{item.max_uses}",
                pairs(item.labels),
                when(item.expires_at),
                when(item.revoked_at),
            )
            for item in found
        ),
        empty="no invitations; make one with `hansa invitation create`",
    )


@app.command("revoke")
def revoke_invitation(
    invitation_id: Annotated[UUID, typer.Argument(help="Its id.")],
    federation: FederationOption = None,
) -> None:
    """Make an invitation useless; sites that redeemed it stay."""
    with connect() as client:
        client.revoke_invitation(chosen_federation(client, federation), invitation_id)
    say("revoked")
