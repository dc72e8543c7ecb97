"""Calls of a hub's JSON routes: a message out, a message back, listings as iterators."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import quote
from uuid import uuid4

from pydantic import BaseModel, SecretStr

from hansa.pages import pages
from hansa.transport import Params, Transport

ItemT = TypeVar("ItemT", bound=BaseModel)
AnswerT = TypeVar("AnswerT", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Calls:
    """The verbs, over one transport. Every method raises HansaError."""

    transport: Transport

    def get(self, path: str, answer: type[AnswerT]) -> AnswerT:
        """Return what is at `path`."""
        return self.transport.call("GET", path, answer)

    def post(self, path: str, answer: type[AnswerT], message: BaseModel | None = None) -> AnswerT:
        """Create or change something, once however often the call is repeated."""
        return self.transport.call(
            "POST",
            path,
            answer,
            body=_encoded(message) if message is not None else None,
            headers={"Idempotency-Key": str(uuid4())},
        )

    def patch(self, path: str, answer: type[AnswerT], change: BaseModel) -> AnswerT:
        """Change the fields that `change` sets."""
        body = _encoded(change, exclude_unset=True)
        return self.transport.call("PATCH", path, answer, body=body)

    def delete(self, path: str) -> None:
        """Take away what is at `path`."""
        self.transport.send("DELETE", path)

    def pages(self, path: str, item: type[ItemT], params: Params | None = None) -> Iterator[ItemT]:
        """Yield the items of a listing."""
        return pages(self.transport, path, item, params)


def within(federation: str, *rest: object) -> str:
    """Return a path below a federation."""
    return "/".join(
        ["/v1/federations", *(quote(str(part), safe="") for part in (federation, *rest))]
    )


def _encoded(message: BaseModel, *, exclude_unset: bool = False) -> bytes:
    """Return the message as JSON with its secrets in clear: this is what they are for."""
    fields: dict[str, Any] = message.model_dump(mode="json", exclude_unset=exclude_unset)
    for name in fields:
        value = getattr(message, name)
        if isinstance(value, SecretStr):
            fields[name] = value.get_secret_value()
    return json.dumps(fields).encode()
