"""What commands print: tables for people, JSON for programs."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import BaseModel
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

UNITS = ("B", "kB", "MB", "GB", "TB", "PB")
UNIT_STEP = 1000  # from one unit to the next
out = Console(highlight=False)
errors = Console(stderr=True, highlight=False)

WIDEST = 10_000  # columns of the terminal that a table may fill

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def say(text: str, style: str = "") -> None:
    """Print one line for people, never wrapped or interpreted."""
    out.print(Text(text, style=style), soft_wrap=True)


def print_json(value: BaseModel | Sequence[BaseModel]) -> None:
    """Print a message, or a list of them, as JSON."""
    plain = (
        value.model_dump(mode="json")
        if isinstance(value, BaseModel)
        else [item.model_dump(mode="json") for item in value]
    )
    out.print(json.dumps(plain, indent=2, ensure_ascii=False), markup=False, soft_wrap=True)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> None:
    """Print a table, or the sentence `empty` when there are no rows."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*(Text("-" if cell is None or cell == "" else str(cell)) for cell in row))
    if table.row_count:
        # In full, however narrow the terminal: ids and fingerprints are there to be copied.
        unbounded = out.options.update(width=WIDEST)
        width = Measurement.get(out, unbounded, table).maximum
        Console(highlight=False, width=max(width, 1)).print(table, crop=False, soft_wrap=True)
    else:
        say(empty)


def print_fields(fields: Iterable[tuple[str, object]]) -> None:
    """Print names and values, one a line."""
    table = Table(box=None, show_header=False, pad_edge=False, padding=(0, 2, 0, 0))
    for name, value in fields:
        shown = "-" if value is None or value == "" else str(value)
        table.add_row(Text(name, style="bold"), Text(shown, overflow="fold"))
    out.print(table)


def when(at: datetime | None) -> str:
    """Return a time for people: UTC, to the second."""
    return at.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S") if at else "-"


def bytes_of(size: float) -> str:
    """Return a number of bytes for people."""
    amount, unit = float(size), 0
    while amount >= UNIT_STEP and unit < len(UNITS) - 1:
        amount, unit = amount / UNIT_STEP, unit + 1
    return f"{amount:.3g} {UNITS[unit]}"


def ago(at: datetime | None, now: datetime) -> str:
    """Return how long ago something was."""
    if at is None:
        return "never"
    seconds = max(0, int((now - at).total_seconds()))
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name} ago"
    return f"{seconds} s ago"


def pairs(labels: dict[str, str]) -> str:
    """Return labels as `k=v` text."""
    return " ".join(f"{key}={value}" for key, value in sorted(labels.items()))
