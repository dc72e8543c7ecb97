"""`hansa receipt ...`: the signed accounts of a run's rounds, and holds on what they name."""

from typing import Annotated

import typer

from hansa.cli.output import JsonFlag, print_json, print_table, say, when
from hansa.cli.settings import FederationOption, chosen_federation, connect, find_run
from hansa.errors import LocalError
from hansa_core import wire
from hansa_core.receipts import parse_body

app = typer.Typer(no_args_is_help=True, help="Receipts; `hansa verify RUN` checks them.")

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id, or name of the newest.")]
DigestArgument = Annotated[
    str, typer.Argument(metavar="DIGEST", help="How a receipt's digest begins.")
]


@app.command("list")
def list_receipts(
    run: RunArgument, federation: FederationOption = None, *, as_json: JsonFlag = False
) -> None:
    """List a run's receipts: what became of each round and of the run."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        found = list(client.receipts(slug, find_run(client, slug, run).id))
    if as_json:
        print_json(found)
        return
    print_table(
        ("NUMBER", "ABOUT", "STATE", "REASON", "DIGEST", "HELD", "CREATED"),
        (
            (
                receipt.number,
                *_about(receipt),
                receipt.digest[:16],
                receipt.hold.reason if receipt.hold else None,
                when(receipt.created_at),
            )
            for receipt in found
        ),
        empty="no receipts yet: the first one comes with the first closed round",
    )


@app.command("hold")
def hold_receipt(
    run: RunArgument,
    digest: DigestArgument,
    reason: Annotated[str, typer.Option(help="Why what it names has to stay.")],
    federation: FederationOption = None,
) -> None:
    """Keep a round's updates and checkpoints, whatever the retention policy says."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        log = client.receipts(slug, find_run(client, slug, run).id)
        held = log.hold(_whole(list(log), digest), reason)
    say(f"receipt {held.number} is held: {reason}")


@app.command("release")
def release_receipt(
    run: RunArgument, digest: DigestArgument, federation: FederationOption = None
) -> None:
    """Let the retention policy decide again."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        log = client.receipts(slug, find_run(client, slug, run).id)
        log.release(_whole(list(log), digest))
    say("released")


def _about(receipt: wire.Receipt) -> tuple[str, str, str | None]:
    """Return what a receipt is about, its state and why."""
    said = parse_body(receipt.body.encode())
    if said.round is None:
        return ("the run's end", said.end.state, said.end.reason) if said.end else ("", "", None)
    again = f", try {said.round.retry + 1}" if said.round.retry else ""
    return f"round {said.round.round_number}{again}", said.round.state, said.round.reason


def _whole(receipts: list[wire.Receipt], start: str) -> str:
    found = [receipt.digest for receipt in receipts if receipt.digest.startswith(start)]
    if len(found) != 1:
        raise LocalError(
            f"{len(found)} receipts begin with {start!r}, wanted 1", hint="see `hansa receipt list`"
        )
    return found[0]
