"""What is wrong with a plan, told to its author: every wrong field by its dotted path."""

from collections.abc import Callable, Collection, Mapping, Sequence
from itertools import dropwhile
from typing import Any, Protocol

from hansa_core.codecs.plans import codec_names
from hansa_core.strategies import strategies, tell_unknown

TOLD_BY_NAME: Mapping[str, Callable[[], Collection[str]]] = {  # sections, with the names there are
    "strategy": strategies,
    "codec": codec_names,
}
_AROUND_A_PLAN = frozenset({"body", "plan"})  # where a request has one


class ValidationFailure(Protocol):
    """What pydantic's and FastAPI's validation errors have in common."""

    def errors(self) -> Sequence[Any]: ...


def problems_of(error: ValidationFailure) -> list[tuple[str, str]]:
    """Return every wrong field of `error` as (dotted path, message with the value seen)."""
    return [_problem(item) for item in error.errors()]


def _problem(item: dict[str, Any]) -> tuple[str, str]:
    path = _document_path(item["loc"])
    unknown = tell_unknown(item)
    if unknown is not None:
        field, message = unknown
        return ".".join([*path, field]), message
    return ".".join(path) or "body", _say(item["msg"], item["type"], item.get("input"))


def _document_path(location: Sequence[object]) -> list[str]:
    """Return where in the document it is: without the names that pydantic puts in."""
    parts = [str(part) for part in location]
    rest = list(dropwhile(_AROUND_A_PLAN.__contains__, parts))
    for section, names in TOLD_BY_NAME.items():
        if rest[:1] == [section] and rest[1:2] and rest[1] in names():
            del parts[len(parts) - len(rest) + 1]
    return parts


def _say(message: str, kind: str, seen: object) -> str:
    if kind in {"missing", "extra_forbidden"} or isinstance(seen, (dict, list)):
        return message
    return f"{message}, got {seen!r}"
