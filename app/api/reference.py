"""The API's own page at /docs: Swagger UI, out of the console's build.

It lies where the console's cookie is sent, so a script in it could do what the person who is
signed in may do. Invariants: the page loads nothing but this hub's files, runs no script but those
in files of their own, and its policy allows nothing else.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from app.api import console
from app.settings import Settings

FOLDER = "reference"  # of the console's build: files that keep their names
PROGRAM = "swagger-ui-bundle.js"
STYLES = "swagger-ui.css"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'"
)
HEADERS = {"Cache-Control": "no-cache", "Content-Security-Policy": POLICY}

# No <base>: the page links to places within itself, which would be looked for below the base.
_PAGE = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Hansa hub: REST API</title>
<link rel="icon" type="image/svg+xml" href="{{prefix}}/console/favicon.svg">
<link rel="stylesheet" href="{{prefix}}/console/{FOLDER}/{STYLES}">
<script defer src="{{prefix}}/console/{FOLDER}/{PROGRAM}"></script>
<script defer src="{{prefix}}/docs/start.js"></script>
</head>
<body>
<div id="reference" data-description="{{prefix}}/openapi.json"></div>
<noscript>This page needs JavaScript. What it shows is in <a href="{{prefix}}/openapi.json"
>openapi.json</a>.</noscript>
</body>
</html>
"""

# Without an address of a validator, the page tells nobody else what API it shows.
_START = """SwaggerUIBundle({
  dom_id: "#reference",
  url: document.getElementById("reference").dataset.description,
  deepLinking: true,
  validatorUrl: null,
});
"""


def install(app: FastAPI, settings: Settings) -> None:
    """Serve the page at /docs."""
    reference = _Reference(settings.console, settings.path_prefix)
    app.add_route("/docs", reference.page, methods=["GET"], include_in_schema=False)
    app.add_route("/docs/start.js", _start, methods=["GET"], include_in_schema=False)


@dataclass(frozen=True, slots=True)
class _Reference:
    built: Path  # the console's folder
    prefix: str  # without a slash at its end

    async def page(self, _request: Request) -> Response:
        program = self.built / FOLDER / PROGRAM
        if not await asyncio.to_thread(program.is_file):
            return console.tell_how_to_build("The API's page is not built")
        return console.guarded(HTMLResponse(_PAGE.format(prefix=self.prefix)), HEADERS)


async def _start(_request: Request) -> Response:
    return console.guarded(Response(_START, media_type="text/javascript"), HEADERS)
