"""Shows a run while it goes on: a line a round that stays, and on a terminal a live table below.

Invariant: showing changes nothing; what is shown comes from the REST API, and from the hub's own
log what it restarted.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from hansa.cli import secure_rounds
from hansa.client import ENDED, HansaClient
from hansa_core import wire
from hansa_core.states import RoundKind, TaskState

BETWEEN_LOOKS_SECONDS = 0.5  # not the stream of events: progress is no event
METRICS = {"loss": "log loss", "accuracy": "accuracy", "roc_auc": "ROC AUC"}
RESTART_MARK = "; restarting in "

_TASK_STYLES = {TaskState.DONE: "green", TaskState.FAILED: "red", TaskState.OPEN: "dim"}


class Restarts:
    """What the hub's supervisor wrote about its parts since the last look."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self._seen = log.stat().st_size if log.exists() else 0  # bytes

    def new(self) -> list[str]:
        """Return the news as lines."""
        with self._log.open("rb") as file:
            file.seek(self._seen)
            whole_lines, newline, _ = file.read().rpartition(b"\n")
        self._seen += len(whole_lines) + len(newline)
        lines = whole_lines.decode(errors="replace").splitlines()
        return [line for line in lines if RESTART_MARK in line]


@dataclass(slots=True)
class _View:
    run: wire.Run
    round: wire.RoundDetail | None = None
    shown_round: int = -1  # the newest checkpoint whose metrics have their line
    after: int = 0  # the newest event seen
    names: dict[str, str] = field(default_factory=dict[str, str])  # of sites by id


def follow(
    client: HansaClient,
    federation: str,
    run_id: UUID,
    *,
    console: Console,
    pause: Callable[[float], None],
    restarts: Restarts,
) -> wire.Run:
    """Show the run until it ends; return it.

    Raises:
        HansaError: the hub is away for longer than the client's patience.
    """
    view = _View(client.run(federation, run_id))
    with ExitStack() as stack:
        live: Live | None = None
        if console.is_terminal:
            live = stack.enter_context(Live(console=console, transient=True, auto_refresh=False))
        console.print(Text(_heading(view.run), style="bold"), soft_wrap=True)
        while True:
            # Looked at before the events: what ended by now has all its events stored.
            view.run = client.run(federation, run_id)
            ended = view.run.state in ENDED
            events = client.event_log(federation).page(after=view.after, run_id=run_id)
            view.after = max([view.after, *(event.id for event in events)])
            for text in [*_told(events, view.names), *restarts.new()]:
                console.print(Text(text, style="yellow"), soft_wrap=True)
            if ended or any(event.kind == "round.completed" for event in events):
                for line in _metric_lines(client, federation, view):
                    console.print(line, soft_wrap=True)
            if live is not None:
                _look_at_round(client, federation, view, events)
                live.update(_render(view), refresh=True)
            if ended and not events:
                return view.run
            pause(BETWEEN_LOOKS_SECONDS)


def _heading(run: wire.Run) -> str:
    mean = "mean over all patients"
    if run.plan.secure is not None:
        mean += ", from sums that hide each hospital's"
    return f"The global model on held-out patients, {mean}:"


def _told(events: Iterable[wire.Event], names: dict[str, str]) -> Iterator[str]:
    """Yield a line for what does not happen in a quiet run."""
    for event in events:
        site_id = str(event.data.get("site_id"))
        if "site_name" in event.data:
            names[site_id] = str(event.data["site_name"])
        who = f"round {event.data.get('round_number')}: {names.get(site_id, site_id)}"
        attempt = event.data.get("attempt")
        match event.kind:
            case "task.claimed" if isinstance(attempt, int) and attempt > 1:
                yield f"{who} takes its task again, attempt {attempt}"
            case "task.reopened" | "task.failed" | "task.late":
                yield f"{who}: {event.kind} {event.data.get('reason') or ''}".rstrip()
            case "roster.confirmed" | "duty.refused":
                yield secure_rounds.event_words(event) or event.kind
            case _:
                pass


def _metric_lines(client: HansaClient, federation: str, view: _View) -> Iterator[Text]:
    """Yield a line for each checkpoint that all hospitals have evaluated since the last look."""
    means: dict[int, dict[str, float]] = {}
    for point in client.metrics(federation, view.run.id):
        if point.kind == "eval" and point.site_id is None:
            means.setdefault(point.round_number, {})[point.name] = point.value
    for number in sorted(number for number in means if number > view.shown_round):
        view.shown_round = number
        line = Text(f"after round {number:>2}" if number else "      at first", style="cyan")
        for name, title in METRICS.items():
            if name in means[number]:
                line.append(f"   {title} ", style="dim")
                line.append(f"{means[number][name]:.3f}", style="default")
        yield line


def _look_at_round(
    client: HansaClient, federation: str, view: _View, events: Iterable[wire.Event]
) -> None:
    opened = [
        number
        for event in events
        if event.kind == "round.opened" and isinstance(number := event.data["round_number"], int)
    ]
    number = max([view.round.number if view.round else 0, *opened])
    if number:
        view.round = client.round(federation, view.run.id, number)


def _render(view: _View) -> RenderableType:
    run = view.run
    head = Table.grid(padding=(0, 2))
    head.add_row(
        Text(f"{run.name} is {run.state}", style="bold"),
        ProgressBar(total=run.plan.rounds, completed=run.rounds_completed, width=40),
        Text(f"{run.rounds_completed} of {run.plan.rounds} rounds"),
    )
    parts: list[RenderableType] = [Text(), head]
    if run.state_reason:
        parts.append(Text(run.state_reason, style="yellow"))
    if view.round is not None:
        parts.append(_render_tasks(view.round))
        if view.round.secure is not None:
            parts.append(Text(secure_rounds.phase(view.round.state, view.round.secure)))
    return Group(*parts)


def _render_tasks(detail: wire.RoundDetail) -> Table:
    what = "evaluates the last model" if detail.kind is RoundKind.EVALUATE else "trains"
    table = Table(
        title=f"round {detail.number} {what}: {detail.state}",
        title_justify="left",
        box=None,
        pad_edge=False,
        padding=(0, 2, 0, 0),
    )
    for column in ("HOSPITAL", "TASK", "PHASE", "PROGRESS", "ATTEMPTS"):
        table.add_column(column)
    for task in detail.tasks:
        done = task.state is TaskState.DONE
        fraction = 1.0 if done else task.progress.fraction if task.progress else 0.0
        table.add_row(
            Text(task.site_name),
            Text(task.state, style=_TASK_STYLES.get(task.state, "cyan")),
            Text(_phase(task)),
            ProgressBar(total=1.0, completed=fraction, width=20),
            Text(str(task.attempts)),
        )
    return table


def _phase(task: wire.TaskView) -> str:
    if task.state is not TaskState.CLAIMED:
        return "-"
    return task.progress.phase if task.progress else "working"  # its first beat is to come
