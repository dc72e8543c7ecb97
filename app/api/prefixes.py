"""A hub below a path of its own, as in https://example.org/hansa.

Some proxies take the path's prefix away and others leave it; some of who is asked directly sends
none. All of them come to the same request: the prefix is in `root_path` and in front of `path`,
as ASGI has it. Pure ASGI, so that a waiting long-poll costs no task of its own.
"""

from starlette.types import ASGIApp, Receive, Scope, Send


class PathPrefix:
    """Makes requests with and without the prefix the same."""

    def __init__(self, app: ASGIApp, prefix: str) -> None:
        """`prefix` starts with a slash and does not end with one."""
        self._app = app
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "http":
            scope = {**scope, "root_path": self._prefix, "path": self._whole(scope["path"])}
        await self._app(scope, receive, send)

    def _whole(self, path: str) -> str:
        if path == self._prefix:
            return f"{path}/"
        return path if path.startswith(f"{self._prefix}/") else self._prefix + path
