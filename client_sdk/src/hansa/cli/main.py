"""The `hansa` command line: its nouns, and how an expected failure is told.

Invariant: what the SDK expects to go wrong is one clear line and a hint on stderr, exit code 1;
`--debug` shows the traceback as well.
"""

import os
import sys
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.text import Text

from hansa import __version__
from hansa.cli import (
    alerts,
    audit,
    channels,
    checkpoints,
    consortium,
    federations,
    invitations,
    members,
    models,
    receipts,
    runs,
    session,
    site,
    sites,
    tokens,
    users,
    verify,
)
from hansa.cli.output import errors, out
from hansa.errors import HansaError
from hansa_core.plans import problems_of
from hansa_core.problems import CoreError

DEBUG_VARIABLE = "HANSA_DEBUG"
EXIT_INTERRUPTED = 130

app = typer.Typer(
    name="hansa",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    help="Train one model across many data sites without moving the data.",
)
session.add_to(app)
verify.add_to(app)
app.add_typer(site.app, name="site")
app.add_typer(consortium.app, name="consortium")
app.add_typer(federations.app, name="federation")
app.add_typer(members.app, name="member")
app.add_typer(invitations.app, name="invitation")
app.add_typer(sites.app, name="sites")
app.add_typer(models.app, name="model")
app.add_typer(checkpoints.app, name="checkpoint")
app.add_typer(runs.app, name="run")
app.add_typer(receipts.app, name="receipt")
app.add_typer(audit.app, name="audit")
app.add_typer(alerts.app, name="alert")
app.add_typer(channels.app, name="channel")
app.add_typer(users.app, name="user")
app.add_typer(tokens.app, name="token")


def _show_version(wanted: bool) -> None:
    if wanted:
        out.print(__version__)
        raise typer.Exit


@app.callback()
def options(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks.")] = False,
    _version: Annotated[
        bool,
        typer.Option("--version", help="Show the version.", callback=_show_version, is_eager=True),
    ] = False,
) -> None:
    """Train one model across many data sites without moving the data."""
    if debug:
        os.environ[DEBUG_VARIABLE] = "1"


def main() -> None:
    """Run the command line."""
    try:
        app()
    except (HansaError, CoreError, ValidationError, OSError) as error:
        if os.environ.get(DEBUG_VARIABLE):
            raise
        _tell(error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)


def _tell(error: HansaError | CoreError | ValidationError | OSError) -> None:
    hint: str | None = None
    if isinstance(error, ValidationError):
        lines = [f"{path}: {message}" for path, message in problems_of(error)]
    elif isinstance(error, HansaError) and error.problem is not None and error.problem.errors:
        lines = [error.problem.detail, *(f"  {e.path}: {e.message}" for e in error.problem.errors)]
        hint = error.hint
    elif isinstance(error, OSError) and error.strerror:
        lines = [f"{error.filename or ''}: {error.strerror}".removeprefix(": ")]
    else:
        lines = [str(error)]
        hint = getattr(error, "hint", None)
    errors.print(Text("hansa: " + "\n".join(lines), style="red"), soft_wrap=True)
    if hint:
        errors.print(Text(f"hint: {hint}"), soft_wrap=True)
