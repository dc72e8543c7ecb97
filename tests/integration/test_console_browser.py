"""What only a browser can show of the console's serving: cookie, policy, stream, other pages."""

import json
import threading
from collections.abc import Generator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest
from fastapi.testclient import TestClient
from playwright.sync_api import Browser, Page, sync_playwright

from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core.states import RunState
from tests.browsers import chromium_path
from tests.factories import Federation, a_federation, a_model, a_run
from tests.identities import PASSWORD
from tests.serving import hub_on_a_socket

PREFIX = "/hansa"
QUIET = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
PAGE = """<!doctype html><html><head><base href="__BASE__">
<meta name="csp-nonce" content="__NONCE__"><link rel="icon" href="data:,">
<script type="module" src="assets/index-1a2b.js"></script>
</head><body><p id="told"></p><p id="styled"></p></body></html>"""
SCRIPT = """
const sheet = document.createElement("style");
sheet.nonce = document.querySelector("meta[name=csp-nonce]").content;
sheet.textContent = "#styled { width: 7px }";
document.head.append(sheet);
const unsigned = document.createElement("style");
unsigned.textContent = "#told { width: 7px }";
document.head.append(unsigned);
document.querySelector("#told").textContent = "ready";
"""
SIGN_IN = """async ([email, password]) => {
  const api = new URL("../", document.baseURI);
  const answer = await fetch(new URL("v1/session/cookie", api), {
    method: "POST", body: JSON.stringify({email, password}),
    headers: {"Content-Type": "application/json"} });
  return [answer.status, document.cookie, JSON.stringify(await answer.json())];
}"""
FIRST_EVENT = """(path) => new Promise((told, failed) => {
  const source = new EventSource(new URL(path, new URL("../", document.baseURI)));
  source.addEventListener("federation.created", (event) => { source.close(); told(event.data); });
  source.onerror = () => failed(new Error("the stream broke"));
})"""
FORGE = """async ([url, type]) => {
  const options = {method: "POST", mode: "no-cors", credentials: "include", body: ""};
  try {
    if (type) options.headers = {"Content-Type": type};
    if (type === "application/json") {
      options.mode = "cors";
      options.headers["Hansa-Client"] = "console";
    }
    return (await fetch(url, options)).type;
  } catch (error) { return "refused"; }
}"""


@pytest.fixture(scope="module")
def chromium() -> Generator[Browser]:
    path = chromium_path()
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=QUIET)
        yield browser
        browser.close()


@pytest.fixture
def page(chromium: Browser) -> Generator[Page]:
    context = chromium.new_context()
    yield context.new_page()
    context.close()


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def console(settings: Settings, tmp_path: Path) -> Generator[str]:
    """The address of a console below a prefix."""
    assets = tmp_path / "dist" / "assets"
    assets.mkdir(parents=True)
    (assets.parent / "index.html").write_text(PAGE)
    (assets / "index-1a2b.js").write_text(SCRIPT)
    changes = {
        "public_url": f"http://127.0.0.1{PREFIX}",
        "console_folder": str(assets.parent),
        "event_keepalive_seconds": 0.5,
    }
    with hub_on_a_socket(settings.model_copy(update=changes)) as hub:
        yield f"{hub}{PREFIX}/console/"


@pytest.fixture
def reference(settings: Settings) -> Generator[str]:
    """The address of the API's own page, out of the checkout's build."""
    changes = {"public_url": f"http://127.0.0.1{PREFIX}"}
    with hub_on_a_socket(settings.model_copy(update=changes)) as hub:
        yield f"{hub}{PREFIX}/docs"


@pytest.fixture
def elsewhere(tmp_path: Path) -> Generator[str]:
    """A page of somebody else on another port: the same site, as far as cookies go."""
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    (folder / "index.html").write_text("<!doctype html><title>Elsewhere</title>")
    handler = partial(_Silent, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


class _Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        pass


def sign_in(page: Page, console: str, federation: Federation) -> list[Any]:
    page.goto(f"{console}federations/{federation.slug}")
    return page.evaluate(SIGN_IN, [federation.owner.email, PASSWORD])


def test_a_deep_link_runs_its_scripts_and_only_signed_styles(page: Page, console: str) -> None:
    refused: list[str] = []
    page.on("console", lambda message: refused.append(message.text))
    page.goto(f"{console}federations/nordic/runs/1")
    page.wait_for_function("document.querySelector('#told').textContent === 'ready'")
    width = "(id) => getComputedStyle(document.querySelector(id)).width"
    assert page.evaluate(width, "#styled") == "7px"
    assert page.evaluate(width, "#told") != "7px"
    assert len(refused) == 1
    assert "style-src" in refused[0]


def test_the_session_follows_the_stream_and_no_script_sees_it(
    page: Page, console: str, federation: Federation
) -> None:
    status, readable, answer = sign_in(page, console, federation)
    (cookie,) = cast("list[dict[str, Any]]", page.context.cookies())
    assert (status, readable) == (201, "")
    assert cookie["value"] not in answer
    assert (cookie["path"], cookie["httpOnly"], cookie["sameSite"]) == (PREFIX, True, "Strict")
    stream = f"v1/federations/{federation.slug}/events/stream?after=0"
    assert json.loads(page.evaluate(FIRST_EVENT, stream))["kind"] == "federation.created"


@pytest.mark.parametrize("kind", ["", "text/plain", "application/json"])
def test_a_page_of_somebody_else_changes_nothing(
    page: Page, console: str, elsewhere: str, federation: Federation, kind: str
) -> None:
    a_model(federation)
    run = a_run(federation)
    sign_in(page, console, federation)
    page.goto(elsewhere)
    path = f"{console.removesuffix('console/')}v1/federations/{federation.slug}/runs/{run.id}"
    with page.expect_request(lambda request: request.url.endswith("/cancel")):
        seen = page.evaluate(FORGE, [f"{path}/cancel", kind])
    assert seen in {"opaque", "refused"}
    assert federation.run(run.id).state is RunState.QUEUED


def test_nobody_puts_the_console_into_a_frame(page: Page, console: str, elsewhere: str) -> None:
    page.goto(elsewhere)
    page.evaluate(
        "(url) => new Promise((done) => { const frame = document.createElement('iframe');"
        " frame.onload = done; frame.src = url; document.body.append(frame); })",
        console,
    )
    (frame,) = page.frames[1:]
    assert frame.url.startswith("chrome-error:")


def test_the_apis_page_shows_the_api_and_asks_this_hub_alone(page: Page, reference: str) -> None:
    told: list[str] = []
    asked: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    answer = page.goto(reference)
    assert answer is not None
    assert answer.status == 200, "the console is not built: make console"
    health = page.locator(".opblock", has_text="/healthz").first
    health.get_by_role("button").first.click()
    health.get_by_role("button", name="Try it out").click()
    health.get_by_role("button", name="Execute").click()
    health.locator(".live-responses-table .response").get_by_text("200").wait_for()
    here = reference.removesuffix("/docs")
    assert f"{here}/healthz" in asked
    assert all(url.startswith((f"{here}/", "data:")) for url in asked)
    assert told == []
