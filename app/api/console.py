"""The console, a client of the API like any other: serves what admin_ui/ was built into.

Invariants:
- only files with plain names inside the folder are served, and nothing is kept in memory: a new
  build shows without a restart;
- index.html is made anew for each answer, with the address it lies at and a nonce of its own;
- the page may load and ask nothing but this hub, and nobody may put it into a frame.
"""

import asyncio
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path

import structlog
from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.settings import Settings

log = structlog.get_logger()

INDEX = "index.html"
ASSETS = "assets/"  # the name of each file in it has a hash of its content
BASE = "__BASE__"
NONCE = "__NONCE__"

# The types that a build has. A wrong one would be refused: browsers are told not to guess.
MEDIA_TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".ico": "image/x-icon",
    ".js": "text/javascript",
    ".json": "application/json",
    ".map": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain",
    ".wasm": "application/wasm",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
FOR_EVER = "public, max-age=31536000, immutable"
FOR_A_WHILE = "public, max-age=3600"  # files that keep their name, such as the icon
SECURITY = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

_PART = r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,199}"  # no dot in front: nothing hidden, and no ".."
_PLAIN = re.compile(rf"{_PART}(/{_PART}){{0,7}}")

_NOT_BUILT = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style nonce="{nonce}">
body {{ font: 1rem/1.6 system-ui, sans-serif; max-width: 36rem; margin: 4rem auto }}
code {{ background: #8883; border-radius: .25rem; padding: .1rem .4rem }}
:root {{ color-scheme: light dark }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>The hub runs, and its API answers; only this web page is missing. Whoever runs the hub builds it
in the checkout with</p>
<p><code>make console</code></p>
<p>and reloads this page; the hub need not be started again. A console that was built elsewhere is
named by <code>HANSA_CONSOLE_FOLDER</code>.</p>
</body>
</html>
"""


def policy(nonce: str | None) -> str:
    """Return the content security policy; `nonce` is that of style sheets made at run time."""
    styles = f" 'nonce-{nonce}'" if nonce else ""
    return (
        f"default-src 'self'; script-src 'self'; style-src 'self'{styles}; img-src 'self' data:; "
        "connect-src 'self'; font-src 'self'; object-src 'none'; base-uri 'self'; "
        "frame-ancestors 'none'; form-action 'self'"
    )


def tell_how_to_build(title: str) -> Response:
    """Return the page for what is missing from the build; `title` names it."""
    nonce = secrets.token_urlsafe(16)
    page = HTMLResponse(_NOT_BUILT.format(title=title, nonce=nonce), HTTPStatus.SERVICE_UNAVAILABLE)
    return guarded(page, {"Cache-Control": "no-cache", "Content-Security-Policy": policy(nonce)})


def guarded(response: Response, headers: Mapping[str, str]) -> Response:
    """Return `response` with `headers`, and with those that every page of the hub has."""
    response.headers.update({**SECURITY, **headers})
    return response


def install(app: FastAPI, settings: Settings) -> None:
    """Serve the console below /console/, and send who asks for / there."""
    console = _Console(settings.console, f"{settings.path_prefix}/console/")
    for path in ("/", "/console"):
        app.add_route(path, console.redirect, methods=["GET"], include_in_schema=False)
    app.add_route("/console/{path:path}", console.serve, methods=["GET"], include_in_schema=False)


def tell_if_not_built(settings: Settings) -> None:
    """Log one line where there is no console to serve."""
    if not (settings.console / INDEX).is_file():
        log.warning("console_not_built", folder=str(settings.console), build="make console")


@dataclass(frozen=True, slots=True)
class _Console:
    folder: Path
    base: str  # the path that browsers see it at, "/" at both ends

    async def redirect(self, _request: Request) -> Response:
        return RedirectResponse(self.base)

    async def serve(self, request: Request) -> Response:
        name = request.path_params["path"]
        if name != INDEX and (name.startswith(ASSETS) or _PLAIN.fullmatch(name)):
            gzip = _takes_gzip(request.headers.get("Accept-Encoding", ""))
            found = await asyncio.to_thread(self._file, name, gzip)
            if found is not None:
                return found
        if name.startswith(ASSETS):
            raise HTTPException(HTTPStatus.NOT_FOUND, f"the console has no file {name[:200]!r}")
        return await asyncio.to_thread(self._index)

    def _file(self, name: str, gzip: bool) -> Response | None:
        path = self.folder / name
        if not _PLAIN.fullmatch(name) or not path.is_file():
            return None
        if not path.resolve().is_relative_to(self.folder.resolve()):
            return None
        packed = path.with_name(f"{path.name}.gz")
        headers = {
            "Cache-Control": FOR_EVER if name.startswith(ASSETS) else FOR_A_WHILE,
            "Content-Security-Policy": policy(None),
        }
        if packed.is_file():
            headers["Vary"] = "Accept-Encoding"
            if gzip:
                path, headers["Content-Encoding"] = packed, "gzip"
        kind = MEDIA_TYPES.get(Path(name).suffix, "application/octet-stream")
        return guarded(Response(path.read_bytes(), media_type=kind), headers)

    def _index(self) -> Response:
        try:
            page = (self.folder / INDEX).read_text()
        except (FileNotFoundError, NotADirectoryError):
            return tell_how_to_build("The console is not built")
        nonce = secrets.token_urlsafe(16)
        page = page.replace(BASE, self.base).replace(NONCE, nonce)
        headers = {"Cache-Control": "no-cache", "Content-Security-Policy": policy(nonce)}
        return guarded(HTMLResponse(page), headers)


def _takes_gzip(accepted: str) -> bool:
    for part in accepted.split(","):
        coding, _, weight = part.partition(";")
        if coding.strip().lower() in {"gzip", "*"}:
            return not re.fullmatch(r"\s*q\s*=\s*0(\.0*)?\s*", weight)
    return False
