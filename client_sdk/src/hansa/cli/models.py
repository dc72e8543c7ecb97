"""`hansa model ...`: models and their first checkpoint."""

import tempfile
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn

from hansa.cli.output import JsonFlag, errors, print_json, print_table, say, when
from hansa.cli.plans import read_document
from hansa.cli.settings import FederationOption, chosen_federation, connect
from hansa.client import HansaClient
from hansa.errors import LocalError, RefusedError
from hansa.journal import store_tensors
from hansa.trainer import load_trainer, parse_config
from hansa_core import wire

app = typer.Typer(no_args_is_help=True, help="Models.")


@app.command("create")
def create_model(
    name: Annotated[str, typer.Argument(help="The model's name.")],
    federation: FederationOption = None,
    trainer: Annotated[
        str | None, typer.Option(help="package.module:object whose initial_tensors to take.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="Plan file: its [training] table and seed are used.")
    ] = None,
    source: Annotated[
        Path | None, typer.Option("--from", help="safetensors file to take instead.")
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Instead of the plan's.")] = None,
    description: Annotated[str, typer.Option(help="What it is for.")] = "",
    *,
    as_json: JsonFlag = False,
) -> None:
    """Create a model and its first checkpoint, from a trainer or from a file.

    Without either the model waits for `hansa checkpoint upload`.
    """
    if trainer is not None and source is not None:
        raise LocalError("both --trainer and --from are given, wanted one of them")
    if trainer is None and (config is not None or seed is not None):
        raise LocalError("--config and --seed are for --trainer, which is not given")
    with connect() as client, tempfile.TemporaryDirectory(prefix="hansa-") as scratch:
        slug = chosen_federation(client, federation)
        if trainer is not None:
            source = Path(scratch) / "model.safetensors"
            _make_initial(trainer, config, seed, source)
        elif source is not None and not source.is_file():
            raise LocalError(f"there is no file {source}")
        model = _ensure_model(client, slug, name, description)
        if source is not None:
            checkpoint = upload_with_progress(client, slug, model.name, source)
            if not as_json:
                say(f"checkpoint {checkpoint.id}, {checkpoint.size} bytes, {checkpoint.digest}")
            model = client.model(slug, model.id)
    if as_json:
        print_json(model)
    else:
        parameters = f"{model.parameters:,} parameters" if model.parameters else "no checkpoint yet"
        say(f"model {model.name}: {parameters}")


@app.command("list")
def list_models(federation: FederationOption = None, *, as_json: JsonFlag = False) -> None:
    """List a federation's models."""
    with connect() as client:
        found = list(client.models(chosen_federation(client, federation)))
    if as_json:
        print_json(found)
        return
    print_table(
        ("MODEL", "PARAMETERS", "NEWEST CHECKPOINT", "CREATED", "DESCRIPTION"),
        (
            (
                model.name,
                f"{model.parameters:,}" if model.parameters is not None else None,
                model.latest_checkpoint_id,
                when(model.created_at),
                model.description,
            )
            for model in found
        ),
        empty="no models yet; make one with `hansa model create`",
    )


def upload_with_progress(
    client: HansaClient, federation: str, model: str, source: Path
) -> wire.Checkpoint:
    """Upload a checkpoint under a progress bar on stderr. Raises HansaError, OSError."""
    newest = next(islice(client.checkpoints(federation, model), 1), None)
    with Progress(
        TextColumn("uploading"), BarColumn(), DownloadColumn(), console=errors, transient=True
    ) as progress:
        bar = progress.add_task("upload", total=source.stat().st_size)
        return client.upload_checkpoint(
            federation,
            model,
            source,
            parent_id=newest.id if newest else None,
            on_bytes=lambda done: progress.update(bar, completed=done),
        )


def _make_initial(trainer: str, config: Path | None, seed: int | None, target: Path) -> None:
    document = read_document(config) if config is not None else {}
    table, planned_seed = document.get("training", {}), document.get("seed", 0)
    if not isinstance(table, dict) or not isinstance(planned_seed, int):
        raise LocalError(f"{config}: wanted a table [training] and an integer seed")
    made = load_trainer(trainer)
    typed = parse_config(made.config_type, table)  # pyright: ignore[reportUnknownArgumentType]
    store_tensors(target, made.initial_tensors(typed, planned_seed if seed is None else seed))


def _ensure_model(client: HansaClient, federation: str, name: str, description: str) -> wire.Model:
    """Create the model, or take the one an interrupted `create` left without a checkpoint."""
    try:
        return client.create_model(federation, name, description)
    except RefusedError as error:
        if error.slug != "already-exists":
            raise
        model = client.model(federation, name)
        if model.latest_checkpoint_id is not None:
            error.hint = f"`hansa checkpoint upload {name} FILE` gives it a new checkpoint"
            raise
        return model
