"""How many bytes of a request are read: a bound on every body that is not an artifact's.

An artifact's upload, whole or in chunks, has bounds of its own and streams (app/api/blobs.py,
chunks.py); everything else is JSON that ends up in memory. Pure ASGI, so that a waiting long-poll
costs no task of its own.
"""

from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.api.problems import answer
from app.domain.errors import TooLargeError

_STREAMED = ("/artifacts/", "/chunks/")  # in the path of every route that takes bytes


def _is_streamed(scope: Scope) -> bool:
    path = scope["path"].removeprefix(scope.get("root_path", ""))
    return scope["method"] == "PUT" and any(part in path for part in _STREAMED)


class BodyLimit:
    """Refuses larger bodies with 413, announced ones before a byte of them is read."""

    def __init__(self, app: ASGIApp, max_bytes: int) -> None:
        self._app = app
        self._max_bytes = max_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer it."""
        if scope["type"] != "http" or _is_streamed(scope):
            await self._app(scope, receive, send)
            return
        announced = dict(scope["headers"]).get(b"content-length", b"0")
        if announced.isdigit() and int(announced) > self._max_bytes:
            await self._refuse(scope, receive, send)
            return
        seen = 0

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self._max_bytes:
                # FastAPI lets only this kind out of its reading of the body.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, self._say())
            return message

        await self._app(scope, counted, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        response = answer(
            HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
            TooLargeError.slug,
            TooLargeError.title,
            self._say(),
        )
        await response(scope, receive, send)

    def _say(self) -> str:
        return f"a request's body may have {self._max_bytes} bytes"
