"""The `hansa-hub` command: run the hub's parts, alone or all together, and look after them.

Each command is thin. Imports of the web, the broker and the database live in the commands
that need them, so that `hansa-hub --help` and the supervisor start at once.
"""

import contextlib
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from app.embedded.errors import EXIT_FAILED, StackError

if TYPE_CHECKING:
    from app.settings import Settings

cli = typer.Typer(name="hansa-hub", no_args_is_help=True, pretty_exceptions_show_locals=False)
admin = typer.Typer(no_args_is_help=True, help="People who administer the hub.")
cli.add_typer(admin, name="admin")

_console = Console(highlight=False)
_errors = Console(stderr=True, highlight=False)

DataDir = Annotated[Path, typer.Option(help="Where everything is kept, passwords included.")]
Host = Annotated[str, typer.Option(help="Address to listen on.")]
Port = Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; up: 0 for any.")]
Concurrency = Annotated[int, typer.Option(min=1, max=64, help="Worker processes.")]
Reload = Annotated[bool, typer.Option("--reload", help="Restart the hub when its code changes.")]


def main() -> None:
    """Run the command line; an expected failure is one message and an exit code."""
    try:
        cli()
    except StackError as error:
        _errors.print(Text(f"hansa-hub: {error}", style="red"), soft_wrap=True)
        sys.exit(error.exit_code)


@cli.command()
def up(
    data_dir: DataDir = Path(".hansa/hub"),
    host: Host = "127.0.0.1",
    port: Port = 8400,
    reload: Reload = False,
    worker_concurrency: Concurrency = 2,
    admin_email: Annotated[str, typer.Option(help="The first administrator.")] = (
        "admin@hansa.example"
    ),
) -> None:
    """Run everything one machine needs, until Ctrl-C: Postgres, Valkey, hub, worker, beat."""
    from app.embedded import stack  # noqa: PLC0415 -- see the module docstring

    def show(summary: stack.StackSummary) -> None:
        table = Table(show_header=False, box=None, padding=(0, 2))
        rows = {
            "hub": summary.address,
            "console": f"{summary.address}/console/",
            "API docs": f"{summary.address}/docs",
            "sign in as": summary.admin_email,
            "password in": str(summary.admin_password_file),
            "logs in": str(summary.logs),
            "to stop": f"Ctrl-C, or kill {os.getpid()}",
        }
        for name, value in rows.items():
            table.add_row(Text(name, style="dim"), Text(value, overflow="fold"))
        _console.print(Text("Hansa is ready.", style="bold green"))
        _console.print(table)

    options = stack.StackOptions(
        data_dir=data_dir,
        host=host,
        port=port,
        reload=reload,
        worker_concurrency=worker_concurrency,
        admin_email=admin_email,
    )
    stack.up(options, report=_report, ready=show)
    _report("stopped")


@cli.command()
def serve(host: Host = "127.0.0.1", port: Port = 8400, reload: Reload = False) -> None:
    """Run the REST hub alone; its settings are HANSA_* variables."""
    import uvicorn  # noqa: PLC0415

    _settings()
    _raise_file_limit()  # every waiting site holds a connection
    uvicorn.run(
        "app.main:create_settled_app",
        factory=True,
        host=host,
        port=port,
        reload=reload,
        http="httptools",
        loop="uvloop",
        backlog=4096,
        timeout_keep_alive=30,  # longer than clients keep an idle connection
        timeout_graceful_shutdown=5,
        access_log=False,
        proxy_headers=True,
    )


@cli.command()
def worker(concurrency: Concurrency = 2) -> None:
    """Run the Celery worker alone."""
    from celery.signals import worker_process_init  # noqa: PLC0415

    from app.embedded.launch import die_with_parent  # noqa: PLC0415

    settings = _settings()

    def die_with_worker(**_: object) -> None:
        die_with_parent(signal.SIGKILL)

    # A pool process outlives a killed worker otherwise: it would finish its task, unseen.
    worker_process_init.connect(die_with_worker, weak=False)
    _celery(
        "worker",
        *("--concurrency", str(concurrency), "--pool", "prefork", "-O", "fair"),
        *("--without-gossip", "--without-mingle", "--without-heartbeat"),
        *("--loglevel", settings.log_level),
    )


@cli.command()
def beat() -> None:
    """Run Celery's beat alone, which rings for the sweeps.

    Its schedule is held in memory: all entries are intervals, so a file would only remember
    when the last few seconds began.
    """
    settings = _settings()
    _celery(
        "beat",
        *("--scheduler", "celery.beat:Scheduler"),
        *("--loglevel", settings.log_level),
    )


@cli.command()
def migrate() -> None:
    """Bring the database of HANSA_DATABASE_URL to the newest schema."""
    from alembic import command  # noqa: PLC0415

    from app.embedded.migrations import alembic_config  # noqa: PLC0415

    _settings()
    command.upgrade(alembic_config(), "head")


@cli.command()
def keygen() -> None:
    """Print a new HANSA_SIGNING_KEY, and on standard error the fingerprint that people pin."""
    from hansa_core import signing  # noqa: PLC0415

    private = signing.generate_private_key()
    typer.echo(signing.encode_base64(private))
    _report(f"fingerprint: {signing.fingerprint(signing.public_key(private))}")


@admin.command("create")
def admin_create(
    email: Annotated[str, typer.Option(help="What the person signs in with.")],
    name: Annotated[str, typer.Option(help="What others see.")] = "Administrator",
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from standard input.")
    ] = False,
) -> None:
    """Create an administrator; one who exists is left as they are."""
    from app.domain.errors import DomainError  # noqa: PLC0415
    from app.services import users  # noqa: PLC0415
    from app.services.principals import HUB  # noqa: PLC0415
    from app.services.transactions import Transactions  # noqa: PLC0415

    settings = _settings()
    if password_stdin:
        password = sys.stdin.readline(1025).rstrip("\n")
    else:
        password = str(typer.prompt("Password", hide_input=True, confirmation_prompt=True))
    transactions = Transactions.from_settings(settings)
    try:
        with transactions.begin("create_admin", by=HUB) as tx:
            users.ensure_admin(tx, email=email, name=name, password=password)
    except DomainError as error:
        raise StackError(f"no administrator {email} was created: {error}") from error
    finally:
        transactions.dispose()
    _console.print(f"{email} is an administrator", markup=False)


@cli.command()
def doctor(
    data_dir: Annotated[
        Path | None, typer.Option(help="Check the stack that `up` runs from this folder.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Check a deployment described by HANSA_* variables, part by part."""
    from app.embedded import doctor as checks  # noqa: PLC0415

    findings = checks.examine(data_dir)
    if as_json:
        typer.echo(checks.as_json(findings))
    else:
        styles = {"ok": "green", "warn": "yellow", "fail": "bold red"}
        table = Table("check", "", "seen", "to do", header_style="dim")
        for found in findings:
            table.add_row(
                Text(found.check),
                Text(found.verdict, style=styles[found.verdict]),
                Text(found.seen, overflow="fold"),
                Text(found.fix, overflow="fold"),
            )
        _console.print(table)
    if any(found.verdict is checks.Verdict.FAIL for found in findings):
        raise typer.Exit(EXIT_FAILED)


@cli.command()
def openapi() -> None:
    """Print the API's OpenAPI description, the same bytes for the same code."""
    import json  # noqa: PLC0415

    with tempfile.TemporaryDirectory() as folder:
        # The description depends on none of these; nothing is connected to.
        os.environ.update(
            HANSA_DATABASE_URL="postgresql+psycopg://hansa@localhost/hansa",
            HANSA_REDIS_URL="redis://localhost:6379/0",
            HANSA_ARTIFACTS_URL=f"file://{folder}",
            HANSA_SIGNING_KEY="A" * 43,
            HANSA_PUBLIC_URL="http://127.0.0.1:8400",
        )
        from app.main import create_app  # noqa: PLC0415

        schema = create_app().openapi()
    typer.echo(json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False))


def _settings() -> "Settings":
    """Return the process's settings.

    Raises:
        StackError: a variable is missing or malformed; the message names each one.
    """
    from pydantic import ValidationError  # noqa: PLC0415

    from app.settings import get_settings  # noqa: PLC0415

    try:
        return get_settings()
    except ValidationError as error:
        problems = (
            f"HANSA_{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}"
            for problem in error.errors()
        )
        raise StackError(f"settings: {'; '.join(problems)} (see app/settings.py)") from error


def _report(message: str) -> None:
    with contextlib.suppress(OSError):  # a closed terminal must not take the stack down
        _errors.print(Text(message), soft_wrap=True)


def _celery(*arguments: str) -> NoReturn:
    """Become the real celery command for our application."""
    from celery.bin.celery import main as celery_main  # noqa: PLC0415

    sys.argv = ["celery", "-A", "worker.celery:celery_app", *arguments]
    sys.exit(celery_main())


def _raise_file_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


if __name__ == "__main__":
    main()
