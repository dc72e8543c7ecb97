"""What a hub's answer means that is no success: a problem, a redirection, or no hub at all."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Protocol

from pydantic import ValidationError

from hansa.errors import HansaError, LocalError, refusal
from hansa_core.wire import Problem

PROBLEM_JSON = "application/problem+json"


class Headers(Protocol):
    """An answer's headers, by name in any case."""

    def get(self, name: str, /) -> str | None:
        """Return a header's value."""
        ...


def problem_of(raw: bytes, status: int, reason: str, headers: Headers, what: str) -> HansaError:
    """Return the error that an answer stands for; `what` names the request."""
    wait = retry_after(headers.get("Retry-After"))
    if (headers.get("Content-Type") or "").startswith(PROBLEM_JSON):
        try:
            problem = Problem.model_validate_json(raw)
        except ValidationError:
            problem = None
        if problem is not None:
            return refusal(problem, retry_after_seconds=wait)
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        return LocalError(
            f"{what} is redirected to {headers.get('Location') or '?'}",
            hint="use the hub's final address: a token is never sent on to another one",
        )
    # Not the hub itself: a proxy before it, or something else altogether.
    made = Problem(
        type=f"urn:hansa:problem:http-{status}",
        title=reason or "HTTP error",
        status=status,
        detail=f"{what} answered {status} {reason}".rstrip(),
        slug=f"http-{status}",
    )
    error = refusal(made, retry_after_seconds=wait)
    error.hint = "is this the address of a Hansa hub?"
    return error


def retry_after(value: str | None) -> float:
    """Return a Retry-After header in seconds; 0 when it is absent or unreadable."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    date = http_date(value)
    return max(0.0, (date - datetime.now(UTC)).total_seconds()) if date else 0.0


def http_date(value: str | None) -> datetime | None:
    """Return a date header; None when it is absent or unreadable."""
    try:
        date = parsedate_to_datetime(value or "")
    except (TypeError, ValueError):
        return None
    return date if date.tzinfo else date.replace(tzinfo=UTC)


def count_of(value: str | None) -> int:
    """Return a header that counts something; 0 when it is absent or unreadable."""
    text = (value or "").strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0  # noqa: PLR2004
