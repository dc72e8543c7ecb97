"""`hansa sites ...`: a federation's sites, as its operator sees them."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from hansa.cli.output import JsonFlag, ago, pairs, print_fields, print_json, print_table, say
from hansa.cli.settings import FederationOption, chosen_federation, connect, find_site
from hansa.client import HansaClient
from hansa_core import wire
from hansa_core.states import SiteState

app = typer.Typer(no_args_is_help=True, help="The sites of a federation, for its operators.")

SiteArgument = Annotated[str, typer.Argument(metavar="SITE", help="Name or id.")]
ReasonOption = Annotated[str, typer.Option(help="Why; the site is told.")]
Change = Callable[[HansaClient, str, UUID, str], wire.Site]


@app.command("list")
def list_sites(
    federation: FederationOption = None,
    state: Annotated[
        list[SiteState] | None, typer.Option(help="Only sites in it; repeat it for several.")
    ] = None,
    online: Annotated[
        bool | None, typer.Option("--online/--offline", help="Only sites that are, or are not.")
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """List a federation's sites."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        found = list(client.sites(slug, states=state or (), online=online))
    if as_json:
        print_json(found)
        return
    now = datetime.now(UTC)
    print_table(
        ("SITE", "STATE", "ONLINE", "LAST SEEN", "LABELS", "FINGERPRINT"),
        (
            (
                site.name,
                site.state,
                "yes" if site.online else "no",
                ago(site.last_seen_at, now),
                pairs(site.labels),
                site.fingerprint,
            )
            for site in found
        ),
        empty="no site is like that"
        if state or online is not None
        else "no sites yet; invite one with `hansa invitation create`",
    )


@app.command("show")
def show_site(
    site: SiteArgument, federation: FederationOption = None, *, as_json: JsonFlag = False
) -> None:
    """Show one site."""
    with connect() as client:
        found = find_site(client, chosen_federation(client, federation), site)
    if as_json:
        print_json(found)
        return
    hardware = found.hardware
    print_fields(
        (
            ("site", found.name),
            ("id", found.id),
            ("state", found.state),
            ("reason", found.state_reason),
            ("fingerprint", found.fingerprint),
            ("labels", pairs(found.labels)),
            ("online", "yes" if found.online else "no"),
            ("last seen", ago(found.last_seen_at, datetime.now(UTC))),
            ("SDK", found.sdk_version),
            ("cpus", hardware.cpus if hardware else None),
            ("memory", f"{hardware.memory_bytes / 2**30:.1f} GiB" if hardware else None),
            ("gpus", ", ".join(hardware.gpus) if hardware else None),
            ("policy", _in_words(found.policy) if found.policy else None),
        )
    )


@app.command("approve")
def approve_site(
    site: SiteArgument,
    federation: FederationOption = None,
    reason: ReasonOption = "",
    fingerprint: Annotated[
        str | None, typer.Option(help="What the site's operator read to you; skips the question.")
    ] = None,
) -> None:
    """Let a pending site take part, once its fingerprint is the one its operator sees."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        found = find_site(client, slug, site)
        if found.state is SiteState.PENDING:
            say(f"{found.name} has the fingerprint {found.fingerprint}")
            if fingerprint is None:
                typer.confirm("Does its operator see the same?", abort=True)
            elif fingerprint.strip() != found.fingerprint:
                say(f"refused: the given fingerprint is {fingerprint.strip()}", style="red")
                raise typer.Exit(1)
        client.approve_site(slug, found.id, reason)
    say(f"{found.name} is active")


@app.command("suspend")
def suspend_site(
    site: SiteArgument, federation: FederationOption = None, reason: ReasonOption = ""
) -> None:
    """Keep a site out until it is reinstated."""
    _change(HansaClient.suspend_site, site, federation, reason)


@app.command("reinstate")
def reinstate_site(
    site: SiteArgument, federation: FederationOption = None, reason: ReasonOption = ""
) -> None:
    """Let a suspended site take part again."""
    _change(HansaClient.reinstate_site, site, federation, reason)


@app.command("revoke")
def revoke_site(
    site: SiteArgument, federation: FederationOption = None, reason: ReasonOption = ""
) -> None:
    """Keep a site out for ever."""
    _change(HansaClient.revoke_site, site, federation, reason)


def _change(change: Change, site: str, federation: str | None, reason: str) -> None:
    with connect() as client:
        slug = chosen_federation(client, federation)
        changed = change(client, slug, find_site(client, slug, site).id, reason)
    say(f"{changed.name} is {changed.state}")


def _in_words(policy: wire.SitePolicy) -> str:
    """Return what a site says that it does and tells."""
    return ", ".join(
        [
            "secure runs only" if policy.secure_only else "any run",
            f"sums of {policy.least_sum or 'any number of'} updates at least",
            f"tracebacks {policy.tracebacks}",
            f"{policy.share_log} lines of log",
            f"trusts {policy.peers}",
        ]
    )
