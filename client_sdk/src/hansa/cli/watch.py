"""`hansa run watch`: a run as it happens, live on a terminal and line by line elsewhere.

Invariant: watching changes nothing and may be stopped and begun again at any time; a hub that is
away is waited out.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import assert_never
from uuid import UUID

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hansa.cli import secure_rounds
from hansa.cli.feeds import AWAY, RunFeed
from hansa.cli.output import errors, out, say
from hansa.client import ENDED, HansaClient
from hansa.errors import RetryableError
from hansa_core import wire
from hansa_core.states import RunState, TaskState

LIVE_WAIT_SECONDS = 1.0  # progress is no event: look at least so often
LINE_WAIT_SECONDS = 25.0  # why a run waits is no event either
SPARK_WIDTH = 40  # characters; of a longer history the end
BARS = "▁▂▃▄▅▆▇█"


@dataclass(slots=True)
class View:
    """What the screen shows."""

    run: wire.Run
    round: wire.RoundDetail | None = None
    metrics: dict[tuple[str, str], list[float]] = field(
        default_factory=dict[tuple[str, str], list[float]]
    )
    trouble: str | None = None  # the hub is away


def watch(client: HansaClient, federation: str, run_id: UUID) -> int:
    """Show a run until it ends and return the exit code: 0 completed, 1 failed, 2 cancelled."""
    try:
        if out.is_terminal:
            run = _watch_live(client, federation, run_id)
        else:
            run = _watch_lines(client, federation, run_id)
    except KeyboardInterrupt:
        errors.print(f"the run goes on; `hansa run watch {run_id}` shows it again", markup=False)
        raise
    say(f"run {run.name} is {run.state}" + (f": {run.state_reason}" if run.state_reason else ""))
    return exit_code(run.state)


def exit_code(state: RunState) -> int:
    """Return what a script learns from a run's end."""
    match state:
        case RunState.COMPLETED:
            return 0
        case RunState.FAILED:
            return 1
        case RunState.CANCELLED:
            return 2
        case RunState.DRAFT | RunState.QUEUED | RunState.RUNNING | RunState.PAUSED:
            return 3  # not ended: cannot be seen after watching
        case _:
            assert_never(state)


def sparkline(values: Sequence[float]) -> str:
    """Return a series as a line of bars, the last SPARK_WIDTH of them."""
    shown = values[-SPARK_WIDTH:]
    low, high = min(shown), max(shown)
    if high == low:
        return BARS[len(BARS) // 2] * len(shown)
    return "".join(BARS[round((v - low) / (high - low) * (len(BARS) - 1))] for v in shown)


def _watch_live(client: HansaClient, federation: str, run_id: UUID) -> wire.Run:
    view = View(client.run(federation, run_id))
    attempt, fresh = 0, True
    with (
        RunFeed(client, federation, run_id) as feed,
        Live(render(view), console=out, refresh_per_second=4, transient=False) as live,
    ):
        while True:
            try:
                view.run = client.run(federation, run_id)
                _refresh(client, federation, view, everything=fresh)
                view.trouble, attempt = None, 0
                live.update(render(view), refresh=True)
                if view.run.state in ENDED:
                    return view.run
                fresh = bool(feed.take(LIVE_WAIT_SECONDS))
            except RetryableError as error:
                attempt += 1
                view.trouble = f"{error}; trying again"
                live.update(render(view), refresh=True)
                time.sleep(AWAY.delay(attempt, 0.5))


def _watch_lines(client: HansaClient, federation: str, run_id: UUID) -> wire.Run:
    attempt = 0
    said: str | None = None
    with RunFeed(client, federation, run_id) as feed:
        while True:
            try:
                run = client.run(federation, run_id)
                state = f"{run.state}, {run.rounds_completed} of {run.plan.rounds} rounds"
                state += f": {run.state_reason}" if run.state_reason else ""
                if state != said and run.state not in ENDED:
                    said = state
                    say(state)
                if run.state in ENDED and feed.is_over:
                    return run
                for event in feed.take(LINE_WAIT_SECONDS):
                    say(event_line(event))
                attempt = 0
            except RetryableError as error:
                attempt += 1
                errors.print(f"{error}; trying again", markup=False)
                time.sleep(AWAY.delay(attempt, 0.5))


def event_line(event: wire.Event) -> str:
    """Return an event as one line: time, kind, and its plain values without ids and digests.

    Those of secure rounds are told in words instead of values.
    """
    told = secure_rounds.event_words(event) or " ".join(
        f"{name}={value}"
        for name, value in event.data.items()
        if isinstance(value, (str, int, float))
        and value != ""
        and not name.endswith(("_id", "digest"))
    )
    return f"{event.at:%H:%M:%S} {event.kind} {told}".rstrip()


def _refresh(client: HansaClient, federation: str, view: View, *, everything: bool) -> None:
    number = view.round.number if view.round else None
    if everything:
        for item in client.rounds(federation, view.run.id):
            number = item.number
        view.metrics = {}
        for point in client.metrics(federation, view.run.id):
            if point.site_id is None:
                view.metrics.setdefault((point.kind, point.name), []).append(point.value)
    if number is not None:
        view.round = client.round(federation, view.run.id, number)


def render(view: View) -> RenderableType:
    """Return the screen."""
    run = view.run
    parts: list[RenderableType] = []
    head = Text(f"{run.name} ", style="bold")
    head.append(f"{run.state}", style=_STYLES[run.state])
    if run.state_reason:
        head.append(f"  {run.state_reason}", style="default")
    parts.append(head)
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        Text("rounds"),
        ProgressBar(total=run.plan.rounds, completed=run.rounds_completed, width=40),
        Text(f"{run.rounds_completed}/{run.plan.rounds}"),
    )
    parts.append(bar)
    if view.round is not None:
        parts.append(_round_table(view.round))
        if view.round.secure is not None:
            parts.append(Text(secure_rounds.phase(view.round.state, view.round.secure)))
            refusals = secure_rounds.refusals(view.round.secure)
            parts.extend(Text(refusal, style="red") for refusal in refusals)
    if view.metrics:
        history = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), show_header=False)
        for (kind, name), values in view.metrics.items():
            history.add_row(
                Text(f"{kind} {name}"), Text(f"{values[-1]:.4g}"), Text(sparkline(values))
            )
        parts.append(history)
    if view.trouble:
        parts.append(Text(view.trouble, style="yellow"))
    return Group(*parts)


def _round_table(detail: wire.RoundDetail) -> Table:
    table = Table(
        title=f"round {detail.number}, {detail.kind}: {detail.state}",
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for column in ("SITE", "TASK", "PHASE", "", "METRICS"):
        table.add_column(column)
    for task in detail.tasks:
        progress = task.progress if task.state is TaskState.CLAIMED else None
        numbers = progress.metrics if progress else {}
        note = task.state_reason or "  ".join(f"{k} {v:.4g}" for k, v in numbers.items())
        table.add_row(
            Text(task.site_name),
            Text(task.state),
            Text(progress.phase if progress else "-"),
            ProgressBar(total=1.0, completed=progress.fraction, width=20) if progress else Text(""),
            Text(note),
        )
    return table


_STYLES = {
    RunState.DRAFT: "dim",
    RunState.QUEUED: "yellow",
    RunState.RUNNING: "cyan",
    RunState.PAUSED: "yellow",
    RunState.COMPLETED: "green",
    RunState.FAILED: "red",
    RunState.CANCELLED: "magenta",
}
