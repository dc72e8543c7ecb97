"""Reading a plan file for the command line: TOML or JSON, every wrong field told at once."""

import json
import tomllib
from pathlib import Path
from typing import Any, cast

from pydantic import JsonValue, ValidationError

from hansa.errors import LocalError
from hansa_core.plans import RunPlan, parse_plan, problems_of

MAX_PLAN = 4 << 20  # bytes


def read_document(path: Path) -> dict[str, Any]:
    """Return the table in a TOML file, or in a JSON file by its ending.

    Raises:
        LocalError: the file is not there, too long, or not what its ending says.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_PLAN + 1)
        if len(raw) > MAX_PLAN:
            raise LocalError(f"{path} has more than {MAX_PLAN} bytes")
        loaded: object = json.loads(raw) if path.suffix == ".json" else tomllib.loads(raw.decode())
    except OSError as error:
        raise LocalError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # both decoders' errors, with line and column
        raise LocalError(f"{path} is not {path.suffix.lstrip('.') or 'toml'}: {error}") from error
    if not isinstance(loaded, dict):
        raise LocalError(f"{path} holds a {type(loaded).__name__}, wanted a table")
    return cast("dict[str, Any]", loaded)


def read_plan(path: Path) -> RunPlan:
    """Return the plan in a file.

    Raises:
        LocalError: naming every wrong field by its path.
    """
    try:
        return parse_plan(read_document(path))
    except ValidationError as error:
        lines = "".join(f"\n  {where}: {message}" for where, message in problems_of(error))
        raise LocalError(f"{path} has wrong fields:{lines}") from error


def parse_changes(pairs: list[str] | None) -> dict[str, JsonValue]:
    """Return `dotted.path=value` texts as a merge patch; values are TOML, or else plain text.

    Raises:
        LocalError: a text is no pair.
    """
    changes: dict[str, JsonValue] = {}
    for pair in pairs or []:
        path, equals, value = pair.partition("=")
        names = path.strip().split(".")
        if not equals or not all(names):
            raise LocalError(f"{pair!r}: wanted the form path.to.field=value")
        table = changes
        for name in names[:-1]:
            inner = table.setdefault(name, {})
            if not isinstance(inner, dict):
                raise LocalError(f"{pair!r}: {name} was set to {inner!r} before")
            table = inner
        table[names[-1]] = _value(value.strip())
    return changes


def _value(text: str) -> JsonValue:
    if text == "null":
        return None  # takes the field away
    try:
        return cast("JsonValue", tomllib.loads(f"value = {text}")["value"])
    except tomllib.TOMLDecodeError:
        return text
