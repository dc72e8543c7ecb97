"""Changing a plan: what a fork does to its parent's. Pure."""

from collections.abc import Mapping
from typing import Any

from pydantic import ValidationError

from app.domain.errors import FieldProblem, InvalidRequestError
from hansa_core.plan_problems import TOLD_BY_NAME
from hansa_core.plans import RunPlan, parse_plan, problems_of


def changed_plan(document: Mapping[str, Any], changes: Mapping[str, Any]) -> RunPlan:
    """Return the plan in `document` after a JSON merge patch (RFC 7396): null takes a field away.

    A section that is told by its name, as `strategy` is, is replaced whole by one of another name:
    the settings of the old one would mean nothing to it.

    Raises:
        InvalidRequestError: with every field that is wrong then.
    """
    try:
        kept = {
            name: section
            for name, section in document.items()
            if name not in TOLD_BY_NAME or _name(changes.get(name)) in {None, _name(section)}
        }
        return parse_plan(_merged(kept, changes))
    except ValidationError as error:
        wrong = tuple(
            FieldProblem(f"changes.{path}", message) for path, message in problems_of(error)
        )
        detail = "; ".join(f"{problem.path}: {problem.message}" for problem in wrong)
        raise InvalidRequestError(detail, fields=wrong) from error


def _name(section: object) -> object:
    return section.get("name") if isinstance(section, Mapping) else None  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType] -- JSON


def _merged(target: Mapping[str, Any], patch: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(target)
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        elif isinstance(value, Mapping):
            before = merged.get(name)
            merged[name] = _merged(before if isinstance(before, Mapping) else {}, value)  # pyright: ignore[reportUnknownArgumentType] -- JSON
        else:
            merged[name] = value
    return merged
