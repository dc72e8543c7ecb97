"""`hansa audit ...`: who did what, from where, and whether the log of it was changed."""

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from hansa.audits import AuditLog
from hansa.cli.output import JsonFlag, print_fields, print_json, print_table, say, when
from hansa.cli.settings import FederationOption, chosen_federation, connect
from hansa.client import HansaClient
from hansa.errors import LocalError
from hansa_core import wire
from hansa_core.audit import (
    MAX_LINE,
    ActorKind,
    Chain,
    Head,
    Sealed,
    read_line,
    verify_chain,
    write_line,
)

app = typer.Typer(no_args_is_help=True, help="Who did what, from where.")

HubFlag = Annotated[bool, typer.Option("--hub", help="The hub's own log; for administrators.")]
MomentOption = Annotated[datetime | None, typer.Option(help="UTC.")]


@app.command("list")
def list_entries(
    federation: FederationOption = None,
    hub: HubFlag = False,
    actor: Annotated[str | None, typer.Option(help="Email address or site's name.")] = None,
    action: Annotated[str | None, typer.Option(help="How it starts, as in site.")] = None,
    since: MomentOption = None,
    until: MomentOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Entries.")] = 50,
    *,
    as_json: JsonFlag = False,
) -> None:
    """List entries, newest first."""
    with connect() as client:
        entries = _log(client, federation, hub=hub).entries(
            actor=actor, action=action, since=_utc(since), until=_utc(until)
        )
        found = list(islice(entries, limit))
    if as_json:
        print_json(found)
        return
    print_table(
        ("NUMBER", "AT", "WHO", "FROM", "ACTION", "DATA"),
        (
            (
                item.number,
                when(item.at),
                _who(item.actor),
                item.actor.address,
                item.action,
                " ".join(f"{name}={value}" for name, value in sorted(item.data.items())),
            )
            for item in found
        ),
        empty="no such entries",
    )


@app.command("export")
def export(
    target: Annotated[Path, typer.Argument(metavar="FILE", help="Where to write it.")],
    federation: FederationOption = None,
    hub: HubFlag = False,
    after: Annotated[int, typer.Option(min=0, help="Only entries after this number.")] = 0,
) -> None:
    """Write the log to a file, an entry a line, for `hansa audit verify` or other programs."""
    part = target.with_name(target.name + ".part")
    count = 0
    with connect() as client:
        log = _log(client, federation, hub=hub)
        with part.open("wb") as file:
            for sealed in log.export(after=after):
                file.write(write_line(sealed))
                count += 1
    part.replace(target)
    say(f"{target}: {count} entries; check them with `hansa audit verify {target}`")


@app.command("verify")
def verify(
    file: Annotated[Path | None, typer.Argument(help="An export; without, the hub's log.")] = None,
    federation: FederationOption = None,
    hub: HubFlag = False,
    head: Annotated[
        list[str] | None,
        typer.Option(metavar="NUMBER:DIGEST", help="A head noted earlier; may be repeated."),
    ] = None,
) -> None:
    """Check a log's chain and print its head. Exit code 1 when an entry was changed or lost.

    Note the head where the hub's owner cannot reach it: with --head, a later check proves that
    nothing up to there was rewritten.
    """
    kept = [_head(text) for text in head or []]
    if file is not None:
        chain = verify_chain(_entries_of(file), kept=kept)
    else:
        with connect() as client:
            log = _log(client, federation, hub=hub)
            now = log.head()  # guards against an export that ends early
            if now.digest is not None and all(one.number != now.number for one in kept):
                kept.append(Head(now.number, now.digest))
            chain = verify_chain(log.export(), kept=kept)
    if chain is None:
        raise LocalError("there are no entries to check")
    _show(chain)


def _show(chain: Chain) -> None:
    print_fields(
        (
            ("log of", f"federation {chain.federation_id}" if chain.federation_id else "the hub"),
            ("entries", f"{chain.first} to {chain.head.number}, each as it was written"),
            ("from", when(chain.since)),
            ("to", when(chain.until)),
        )
    )
    say(f"head {chain.head}")


def _entries_of(file: Path) -> Iterator[Sealed]:
    with file.open("rb") as opened:
        number = 0
        while line := opened.readline(MAX_LINE + 1):
            number += 1
            if not line.endswith(b"\n"):
                raise LocalError(f"{file}, line {number}: it was cut, or is no export")
            try:
                sealed = read_line(line)
            except ValueError as error:
                raise LocalError(f"{file}, line {number}: {error}") from error
            yield sealed


def _log(client: HansaClient, federation: str | None, *, hub: bool) -> AuditLog:
    return client.audit_log(None if hub else chosen_federation(client, federation))


def _head(text: str) -> Head:
    try:
        return Head.parse(text)
    except ValueError as error:
        raise LocalError(f"--head: {error}") from error


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.replace(tzinfo=UTC)


def _who(actor: wire.AuditActor) -> str:
    return f"site {actor.name}" if actor.kind is ActorKind.SITE else actor.name
