"""`hansa run ...`: define, start, watch and look into runs."""

from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer
from pydantic import JsonValue

from hansa.cli import secure_rounds
from hansa.cli.estimates import estimate_run
from hansa.cli.output import JsonFlag, print_fields, print_json, print_table, say, when
from hansa.cli.plans import parse_changes, read_plan
from hansa.cli.previews import preview_run
from hansa.cli.settings import FederationOption, chosen_federation, connect, find_run
from hansa.cli.watch import sparkline, watch
from hansa.client import HansaClient
from hansa.trainer import load_trainer, parse_config
from hansa.verification import check_update
from hansa_core import wire
from hansa_core.plans import parse_plan
from hansa_core.states import RunState, TaskState

app = typer.Typer(no_args_is_help=True, help="Runs.")
app.command("preview")(preview_run)
app.command("estimate")(estimate_run)

RunArgument = Annotated[str, typer.Argument(metavar="RUN", help="Id, or name of the newest.")]


@app.command("create")
def create_run(
    plan: Annotated[Path, typer.Argument(help="The plan, TOML or JSON.")],
    federation: FederationOption = None,
    start: Annotated[bool, typer.Option(help="Start it at once.")] = True,
    checkpoint: Annotated[
        UUID | None, typer.Option(help="Base, instead of the model's newest checkpoint.")
    ] = None,
    trainer: Annotated[
        str | None, typer.Option(help="package.module:object to check [training] against.")
    ] = None,
    follow: Annotated[bool, typer.Option("--watch", help="Watch it.")] = False,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Create a run from a plan, checked here first and then by the hub."""
    parsed = read_plan(plan)
    if trainer is not None:
        parse_config(load_trainer(trainer).config_type, parsed.training)
    with connect() as client:
        slug = chosen_federation(client, federation)
        run = client.create_run(slug, parsed, checkpoint_id=checkpoint, start=start)
        if as_json:
            print_json(run)
        else:
            say(f"run {run.name} is {run.state}: {run.id}")
            if run.state_reason:
                say(run.state_reason)
        if follow:
            raise typer.Exit(watch(client, slug, run.id))


@app.command("start")
def start_run(run: RunArgument, federation: FederationOption = None) -> None:
    """Start a run that was created with --no-start."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        started = client.start_run(slug, find_run(client, slug, run).id)
    say(f"run {started.name} is {started.state}")


@app.command("list")
def list_runs(
    federation: FederationOption = None,
    state: Annotated[
        list[RunState] | None, typer.Option(help="Only runs in it; repeat it for several.")
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """List a federation's runs, newest first."""
    with connect() as client:
        found = list(client.runs(chosen_federation(client, federation), states=state or ()))
    if as_json:
        print_json(found)
        return
    print_table(
        ("RUN", "STATE", "ROUNDS", "MODEL", "CREATED", "ID", "REASON"),
        (
            (
                run.name,
                run.state,
                f"{run.rounds_completed}/{run.plan.rounds}",
                run.plan.model,
                when(run.created_at),
                run.id,
                run.state_reason,
            )
            for run in found
        ),
        empty=f"no run is {' or '.join(state)}"
        if state
        else "no runs yet; make one with `hansa run create PLAN`",
    )


@app.command("watch")
def watch_run(run: RunArgument, federation: FederationOption = None) -> None:
    """Watch a run until it ends. Exit code: 0 completed, 1 failed, 2 cancelled."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        code = watch(client, slug, find_run(client, slug, run).id)
    raise typer.Exit(code)


@app.command("show")
def show_run(
    run: RunArgument, federation: FederationOption = None, *, as_json: JsonFlag = False
) -> None:
    """Show a run: its rounds, metrics and failures."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        found = find_run(client, slug, run)
        if as_json:
            print_json(found)
            return
        print_fields(
            (
                ("run", found.name),
                ("id", found.id),
                ("state", found.state),
                ("reason", found.state_reason),
                ("model", found.plan.model),
                ("rounds", f"{found.rounds_completed} of {found.plan.rounds}"),
                ("plan", found.plan_digest),
                ("checkpoint", found.latest_checkpoint_id),
                ("forked from", found.parent_run_id),
                ("bytes moved", found.bytes_moved),
                ("created", when(found.created_at)),
                ("started", when(found.started_at)),
                ("finished", when(found.finished_at)),
            )
        )
        _show_rounds(client, slug, found)
        _show_metrics(list(client.metrics(slug, found.id)))


@app.command("updates")
def check_updates(
    run: RunArgument,
    federation: FederationOption = None,
    number: Annotated[int | None, typer.Option("--round", min=1, help="Only this round's.")] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """List a run's updates and check their signatures here. Exit code 1 when one is wrong."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        run_id = find_run(client, slug, run).id
        found = list(client.updates(slug, run_id, round_number=number))
    wrong = {update.id: check_update(update, run_id=run_id) for update in found}
    if as_json:
        print_json(found)
    else:
        print_table(
            ("SITE", "DIGEST", "BYTES", "EXAMPLES", "KEY", "SIGNATURE"),
            (
                (
                    update.site_name,
                    update.digest[:16],
                    update.size,
                    update.num_examples,
                    update.fingerprint[:9],
                    wrong[update.id] or "holds",
                )
                for update in found
            ),
            empty="no updates yet",
        )
    if any(wrong.values()):
        raise typer.Exit(1)


@app.command("pause")
def pause_run(
    run: RunArgument,
    federation: FederationOption = None,
    burn: Annotated[
        bool, typer.Option("--burn", help="At once: the open round is held again later.")
    ] = False,
) -> None:
    """Pause a run when its round is closed."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        paused = client.pause_run(slug, find_run(client, slug, run).id, burn=burn)
    if paused.pausing:
        say(f"run {paused.name} pauses when its round is closed: {paused.state_reason}")
    else:
        say(f"run {paused.name} is {paused.state}")


@app.command("resume")
def resume_run(run: RunArgument, federation: FederationOption = None) -> None:
    """Let a paused run go on from its latest checkpoint."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        resumed = client.resume_run(slug, find_run(client, slug, run).id)
    say(f"run {resumed.name} is {resumed.state}")


@app.command("fork")
def fork_run(
    run: RunArgument,
    name: Annotated[str, typer.Option(help="Name of the new run.")],
    federation: FederationOption = None,
    number: Annotated[
        int | None,
        typer.Option("--round", min=0, help="From this round's checkpoint; 0 is the base."),
    ] = None,
    changes: Annotated[
        list[str] | None,
        typer.Option("--set", help="Change the plan: training.lr=0.01 (null takes away)."),
    ] = None,
    start: Annotated[bool, typer.Option(help="Start it at once.")] = True,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Make a new run from a checkpoint of another, with a changed plan."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        forked = client.fork_run(
            slug,
            find_run(client, slug, run).id,
            name,
            round_number=number,
            changes=parse_changes(changes),
            start=start,
        )
    if as_json:
        print_json(forked)
    else:
        say(f"run {forked.name} is {forked.state}: {forked.id}")


@app.command("evaluate")
def evaluate_model(
    model: Annotated[str, typer.Argument(help="Name of the model.")],
    federation: FederationOption = None,
    checkpoint: Annotated[
        UUID | None, typer.Option(help="Which one, instead of the newest.")
    ] = None,
    name: Annotated[str, typer.Option(help="Name of the run.")] = "evaluation",
    changes: Annotated[
        list[str] | None, typer.Option("--set", help="More of the plan: training.batch_size=64.")
    ] = None,
    follow: Annotated[bool, typer.Option("--watch", help="Watch it.")] = False,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Evaluate a checkpoint on every site's held-out data, without training."""
    asked: dict[str, JsonValue] = {"name": name, "model": model, "rounds": 0}
    plan = parse_plan({**asked, **parse_changes(changes)})
    with connect() as client:
        slug = chosen_federation(client, federation)
        run = client.create_run(slug, plan, checkpoint_id=checkpoint)
        if as_json:
            print_json(run)
        else:
            say(f"run {run.name} is {run.state}: {run.id}")
        if follow:
            raise typer.Exit(watch(client, slug, run.id))


@app.command("cancel")
def cancel_run(run: RunArgument, federation: FederationOption = None) -> None:
    """Stop a run; its finished rounds and their checkpoints stay."""
    with connect() as client:
        slug = chosen_federation(client, federation)
        cancelled = client.cancel_run(slug, find_run(client, slug, run).id)
    say(f"run {cancelled.name} is {cancelled.state}")


def _show_rounds(client: HansaClient, federation: str, run: wire.Run) -> None:
    listed = list(client.rounds(federation, run.id))
    last_tries = {item.number: item.id for item in listed}
    rounds = [client.round(federation, run.id, number) for number in last_tries]
    burnt = [item for item in listed if item.id not in last_tries.values()]
    say("")
    print_table(
        ("ROUND", "KIND", "STATE", "ANSWERS", "CLOSED", "REASON"),
        (
            (
                item.number,
                item.kind,
                item.state,
                f"{sum(task.state is TaskState.DONE for task in item.tasks)}/{len(item.tasks)}",
                when(item.closed_at),
                item.state_reason,
            )
            for item in rounds
        ),
        empty="no rounds yet",
    )
    secure_rounds.show_rounds(rounds)
    for item in burnt:
        say(f"round {item.number} was held before: {item.state}, {item.state_reason}", style="dim")
    for item in rounds:
        for excluded in item.excluded:
            say(f"round {item.number} without {excluded.site}: {excluded.reason}", style="dim")
    for item in rounds:
        for task in item.tasks:
            if task.state is TaskState.FAILED:
                say("")
                say(f"round {item.number}, {task.site_name}: {task.state_reason}", style="red")
                if task.traceback:
                    say(task.traceback.rstrip(), style="dim")
                if task.log:
                    say("the site's log, to its end:", style="dim")
                    say(task.log.rstrip(), style="dim")


def _show_metrics(points: list[wire.MetricPoint]) -> None:
    series: dict[tuple[str, str], list[float]] = {}
    for point in points:
        if point.site_id is None:
            series.setdefault((point.kind, point.name), []).append(point.value)
    if series:
        say("")
        print_table(
            ("METRIC", "OVER", "FIRST", "LAST", "BY ROUND"),
            (
                (name, kind, f"{values[0]:.4g}", f"{values[-1]:.4g}", sparkline(values))
                for (kind, name), values in series.items()
            ),
            empty="",
        )
