"""How the tests read an example's plan."""

import tomllib
from pathlib import Path
from typing import Any


def read_toml(path: Path) -> dict[str, Any]:
    """Return a TOML file as plain values."""
    return tomllib.loads(path.read_text(encoding="utf-8"))
