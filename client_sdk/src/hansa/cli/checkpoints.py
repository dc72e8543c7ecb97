"""`hansa checkpoint ...`: stored global models as files."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from hansa.cli.models import upload_with_progress
from hansa.cli.output import JsonFlag, errors, print_json, print_table, say, when
from hansa.cli.settings import FederationOption, as_uuid, chosen_federation, connect, find_run
from hansa.client import HansaClient
from hansa.errors import LocalError, RefusedError

app = typer.Typer(no_args_is_help=True, help="Stored global models.")


@app.command("list")
def list_checkpoints(
    model: Annotated[str, typer.Argument(help="Name or id of the model.")],
    federation: FederationOption = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """List a model's checkpoints, newest first."""
    with connect() as client:
        found = list(client.checkpoints(chosen_federation(client, federation), model))
    if as_json:
        print_json(found)
        return
    print_table(
        ("ID", "ROUND", "BYTES", "DIGEST", "STATE", "CREATED"),
        (
            (
                it.id,
                it.round_number,
                it.size,
                it.digest,
                ", ".join(slot.name for slot in it.slots),
                when(it.created_at),
            )
            for it in found
        ),
        empty=f"{model} has no checkpoint yet",
    )


@app.command("upload")
def upload_checkpoint(
    model: Annotated[str, typer.Argument(help="Name or id of the model.")],
    source: Annotated[Path, typer.Argument(help="safetensors file.")],
    federation: FederationOption = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Make a file a model's newest checkpoint."""
    if not source.is_file():
        raise LocalError(f"there is no file {source}")
    with connect() as client:
        made = upload_with_progress(client, chosen_federation(client, federation), model, source)
    if as_json:
        print_json(made)
    else:
        say(f"checkpoint {made.id}, {made.size} bytes, {made.digest}")


@app.command("download")
def download_checkpoint(
    named: Annotated[str, typer.Argument(metavar="RUN", help="A run, or a checkpoint's id.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where to write it.")],
    federation: FederationOption = None,
) -> None:
    """Download a run's newest checkpoint, or any by its id; its digest is checked."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        checkpoint_id = _checkpoint_id(client, slug, named)
        size = client.checkpoint(slug, checkpoint_id).size
        with Progress(
            TextColumn("downloading"), BarColumn(), DownloadColumn(), console=errors, transient=True
        ) as progress:
            bar = progress.add_task("download", total=size)
            got = client.download_checkpoint(
                slug,
                checkpoint_id,
                output,
                on_bytes=lambda done: progress.update(bar, completed=done),
            )
    say(f"{output}: {got.size} bytes, SHA-256 {got.digest}")


def _checkpoint_id(client: HansaClient, federation: str, named: str) -> UUID:
    identifier = as_uuid(named)
    if identifier is not None:
        try:
            return client.checkpoint(federation, identifier).id
        except RefusedError as error:
            if error.slug != "not-found":
                raise
    return find_run(client, federation, named).latest_checkpoint_id
