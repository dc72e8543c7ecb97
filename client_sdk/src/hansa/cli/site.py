"""`hansa site ...`: this machine as a data site."""

import sys
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.panel import Panel
from rich.text import Text

from hansa.cli import peers
from hansa.cli.output import JsonFlag, errors, out, print_fields, print_json, say
from hansa.cli.session import warn_of_plain_http
from hansa.cli.settings import parse_labels
from hansa.cli.state_dirs import StateDirOption
from hansa.errors import HansaError
from hansa.failures import Tracebacks
from hansa.identity import StateDir, default_state_dir, open_state_dir
from hansa.options import OUTAGE, SHARED_LINES, RunnerEvent, RunnerOptions
from hansa.runner import SiteRunner
from hansa.secure.peers import Peers
from hansa.site import SiteClient, enroll, rotate_key
from hansa.trainer import load_trainer
from hansa.transfers import Throttle, TransferOptions, parse_rate
from hansa.transport import RetryPolicy, checked_url, is_plain_and_remote
from hansa_core.states import SiteState

app = typer.Typer(no_args_is_help=True, help="This machine as a data site.")
app.add_typer(peers.app, name="peers")

MOST_LINES = 1000  # of a log that is shared

BAD_EVENTS = frozenset(
    {
        "task_failed",
        "hub_unreachable",
        "heartbeat_failed",
        "report_failed",
        "memory_missing",
        "secure_refused",
        "peer_pinned",  # to be compared by somebody
        "duty_failed",
        "duties_failed",
    }
)


@app.command("enroll")
def enroll_site(
    url: Annotated[str, typer.Argument(help="The hub's address.")],
    invitation: Annotated[str, typer.Argument(help="The invitation you were given.")],
    name: Annotated[str, typer.Option(help="The site's name in the federation.")],
    label: Annotated[list[str] | None, typer.Option(help="key=value; may be repeated.")] = None,
    state_dir: StateDirOption = None,
) -> None:
    """Make this machine a site of a federation: a key is made, the invitation redeemed."""
    labels = parse_labels(label)
    if is_plain_and_remote(checked_url(url)):
        warn_of_plain_http(url)
    state = open_state_dir(state_dir or default_state_dir(), create=True)
    with state.locked():
        view = enroll(state, url, invitation, name=name, labels=labels)
    say(f"enrolled as {view.name} in federation {view.federation_slug}")
    out.print(
        Panel(Text(view.fingerprint, style="bold", justify="center"), title="fingerprint"),
        width=min(out.width, len(view.fingerprint) + 12),
    )
    if view.state is SiteState.PENDING:
        say("Next: tell this fingerprint to the federation's operator by a channel you trust;")
        say("they compare it and approve the site. You may already start it, it will wait:")
    else:
        say("The site is active. Start it:")
    option = f" --state-dir {state_dir}" if state_dir else ""
    say(f"  hansa site run{option} --trainer package.module:object")


@app.command("run")
def run_site(
    trainer: Annotated[str, typer.Option(help="package.module:object, your trainer.")],
    state_dir: StateDirOption = None,
    device: Annotated[str, typer.Option(help="Handed to the trainer, e.g. cuda:0.")] = "cpu",
    tracebacks: Annotated[
        Tracebacks,
        typer.Option(help="What researchers see of the trainer's exceptions (may quote data)."),
    ] = Tracebacks.FULL,
    max_tasks: Annotated[int | None, typer.Option(min=1, help="Stop after so many tasks.")] = None,
    once: Annotated[bool, typer.Option("--once", help="Stop after one task.")] = False,
    longest_pause: Annotated[
        float, typer.Option(min=0.1, help="Seconds, at most, between tries of a hub that is away.")
    ] = OUTAGE.max_delay_seconds,
    upload_rate: Annotated[
        str | None,
        typer.Option(help="At most so much, e.g. 5MB/s.", envvar="HANSA_SITE_UPLOAD_RATE"),
    ] = None,
    download_rate: Annotated[
        str | None,
        typer.Option(help="At most so much, e.g. 20MB/s.", envvar="HANSA_SITE_DOWNLOAD_RATE"),
    ] = None,
    secure_only: Annotated[
        bool,
        typer.Option("--secure-only", help="Refuse tasks of runs without secure aggregation."),
    ] = False,
    least_sum: Annotated[
        int,
        typer.Option(min=3, help="Refuse secure rounds whose sum may be of fewer updates."),
    ] = 3,
    share_log: Annotated[
        int | None,
        typer.Option(
            min=0,
            max=MOST_LINES,
            help="Lines of Python's log that researchers see of a failed task (may quote data); "
            f"{SHARED_LINES}, or 0 with --secure-only or --tracebacks none.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Work for the federation until stopped: poll for tasks, train, upload."""
    transfers = TransferOptions(upload=_throttle(upload_rate), download=_throttle(download_rate))
    state = open_state_dir(state_dir or default_state_dir())
    state.identity()  # said before the trainer is imported, which may take a while
    runner = SiteRunner(
        state,
        load_trainer(trainer),
        options=RunnerOptions(
            device=device,
            tracebacks=tracebacks,
            max_tasks=1 if once else max_tasks,
            secure_only=secure_only,
            least_sum=least_sum,
            share_log=share_log,
            outage=replace(OUTAGE, max_delay_seconds=longest_pause),
            transfers=transfers,
        ),
        on_event=show_event,
    )
    with runner.stopping_on_signals():
        runner.run()


@app.command("status")
def show_status(state_dir: StateDirOption = None, *, as_json: JsonFlag = False) -> None:
    """Show who this site is, and what the hub says of it."""
    state = open_state_dir(state_dir or default_state_dir())
    identity = state.identity()
    record = identity.record
    try:
        with SiteClient(identity, retry=RetryPolicy(attempts=2)) as client:
            view = client.view()
    except HansaError as error:
        print_fields(_known(state))
        say(f"the hub says: {error}", style="yellow")
        raise typer.Exit(1) from error
    if as_json:
        print_json(view)
        return
    print_fields([*_known(state), ("state", view.state), ("reason", view.state_reason)])
    if view.state is SiteState.PENDING:
        say(f"waiting for approval; the operator compares the fingerprint {record.fingerprint}")


@app.command("rotate-key")
def rotate_site_key(state_dir: StateDirOption = None) -> None:
    """Replace the site's private key. Stop the runner first."""
    state = open_state_dir(state_dir or default_state_dir())
    with state.locked():
        record = rotate_key(state)
    say(f"the site has a new key; its fingerprint is {record.fingerprint}")


def show_event(event: RunnerEvent) -> None:
    """Print one line for what happened; a failed task's traceback goes to stderr."""
    at = datetime.now(UTC).strftime("%H:%M:%S")
    style = "yellow" if event.kind in BAD_EVENTS else ""
    say(f"{at} {event.message}", style=style)
    trace = event.fields.get("traceback")
    if trace:
        errors.print(Text(str(trace).rstrip(), style="dim"), soft_wrap=True)
    sys.stdout.flush()


def _throttle(rate: str | None) -> Throttle:
    return Throttle(None if rate is None else parse_rate(rate))


def _known(state: StateDir) -> list[tuple[str, object]]:
    record = state.identity().record
    return [
        ("site", record.site_name),
        ("federation", record.federation_slug),
        ("hub", record.hub_url),
        ("id", record.site_id),
        ("fingerprint", record.fingerprint),
        ("folder", state.path),
        ("trusts", peers.mode_in_words(Peers(state.path).book())),
    ]
