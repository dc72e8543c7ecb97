"""Reading a plan file for the command line: TOML or JSON, every wrong field told at once."""

import json
import tomllib
from pathlib import Path
from typing import Any, cast

from pydantic import ValidationError

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
