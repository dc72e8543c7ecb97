"""What every wire message shares: strict requests, tolerant responses, pages and problems."""

from typing import Annotated, Generic, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from hansa_core.names import Digest

__all__ = [
    "MAX_NUM_EXAMPLES",
    "Digest",
    "FieldError",
    "Labels",
    "Metrics",
    "NumExamples",
    "Page",
    "Problem",
    "Request",
    "Response",
]

ItemT = TypeVar("ItemT")

Labels = Annotated[
    dict[
        Annotated[str, Field(min_length=1, max_length=64)],
        Annotated[str, Field(max_length=256)],
    ],
    Field(max_length=32),
]
Metrics = Annotated[
    dict[
        Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_./-]{0,63}$")],
        Annotated[float, Field(allow_inf_nan=False)],
    ],
    Field(max_length=64),
]
MAX_NUM_EXAMPLES = 2**40
NumExamples = Annotated[int, Field(ge=1, le=MAX_NUM_EXAMPLES)]


class Request(BaseModel):
    """A message to the hub. Unknown fields are refused: they would be silently lost."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Response(BaseModel):
    """A message from the hub. Unknown fields are ignored: a newer hub never breaks a client."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class Page(Response, Generic[ItemT]):
    """One page of a listing, newest first unless the route says otherwise."""

    items: list[ItemT]
    next_cursor: str | None = None  # pass as `cursor` for the next page; None on the last one


class FieldError(Response):
    """One wrong field."""

    path: str
    message: str


class Problem(Response):
    """An error answer, application/problem+json (RFC 9457)."""

    type: str  # "urn:hansa:problem:<slug>"
    title: str
    status: int
    detail: str
    slug: str
    errors: list[FieldError] = Field(default_factory=list[FieldError])
