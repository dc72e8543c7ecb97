"""Fields of requests that an older hub does not know.

A hub refuses requests with fields that it does not know, as they would be lost without a word. What
may be lost is therefore sent until a hub refuses it, and left out from then on.
"""

from collections.abc import Callable
from http import HTTPStatus
from typing import TypeVar

from hansa.errors import RefusedError
from hansa_core.wire import Request

RequestT = TypeVar("RequestT", bound=Request)
AnswerT = TypeVar("AnswerT")


class NewerFields:
    """Which fields one hub refused. Safe to share between threads."""

    def __init__(self) -> None:
        self._refused: set[tuple[type[Request], str]] = set()

    def send(self, once: Callable[[RequestT], AnswerT], body: RequestT, *, without: str) -> AnswerT:
        """Return what `once` returns for `body`, or for a body without that field.

        Raises what `once` raises, but no refusal of that field.
        """
        kind = type(body)
        default = kind.model_fields[without].get_default()
        if getattr(body, without) != default and (kind, without) not in self._refused:
            try:
                return once(body)
            except RefusedError as error:
                if not _is_refusal_of(error, without):
                    raise
                self._refused.add((kind, without))
        return once(body.model_copy(update={without: default}))


def _is_refusal_of(error: RefusedError, field: str) -> bool:
    problem = error.problem
    return (
        problem is not None
        and problem.status == HTTPStatus.UNPROCESSABLE_ENTITY
        and any(field == wrong.path.split(".")[0] for wrong in problem.errors)
    )
