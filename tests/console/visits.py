"""A person at a browser: signed in, at a screen of some size, with everything noted that is wrong.

Invariant: whatever page is visited, no request leaves the hub's origin, the page's policy refuses
nothing and no script fails; `require_clean` holds a visit to that.
"""

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Error,
    Page,
    Request,
    Response,
    expect,
    sync_playwright,
)

from tests.browsers import chromium_path
from tests.e2e.processes import CHECKOUT

AXE = CHECKOUT / "admin_ui" / "node_modules" / "axe-core" / "axe.min.js"
DESK, PHONE = (1440, 900), (390, 844)
PATIENCE_MS = 60_000  # of a loaded machine
GRAVE = frozenset({"serious", "critical"})
POLICY = "Content Security Policy"
# No sandbox, for root in a container; and nothing that the browser fetches for itself.
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
Scheme = Literal["light", "dark"]


@contextmanager
def a_browser() -> Generator[Browser]:
    """Start a Chromium without a window."""
    path = chromium_path()
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=ARGUMENTS)
        yield browser
        browser.close()


@dataclass(slots=True)
class Visit:
    """One person's window."""

    page: Page
    base: str  # the console's address, with a slash at the end
    faults: list[str] = field(default_factory=list[str])
    refusals: list[str] = field(default_factory=list[str])  # answers of 400 and more

    def open(self, path: str) -> Page:
        """Go to a page of the console and wait until it has its heading."""
        self.page.goto(self.base + path.lstrip("/"))
        expect(self.page.get_by_role("heading", level=1).first).to_be_visible()
        return self.page

    def settle(self) -> Page:
        """Wait until nothing on the page says that it is loading."""
        expect(self.page.get_by_role("heading", level=1).first).to_be_visible()
        expect(self.page.locator("[aria-busy=true], [aria-label=Loading]")).to_have_count(0)
        return self.page

    def require_clean(self) -> None:
        """Fail if a page did what no page may do."""
        assert not self.faults, "\n".join(self.faults)

    def watch(self) -> None:
        """Note from now on what goes wrong."""
        origin = "{0.scheme}://{0.netloc}".format(urlsplit(self.base))

        def requested(request: Request) -> None:
            if not request.url.startswith((f"{origin}/", "data:", f"blob:{origin}/")):
                self.faults.append(f"{self.page.url} asks for {request.url}")

        def said(message: ConsoleMessage) -> None:
            if POLICY in message.text:
                self.faults.append(f"{self.page.url}: {message.text}")

        def failed(error: Error) -> None:
            self.faults.append(f"{self.page.url}: {error}")

        def answered(response: Response) -> None:
            if response.status >= 400:
                self.refusals.append(f"{response.status} {response.request.method} {response.url}")

        self.page.on("request", requested)
        self.page.on("console", said)
        self.page.on("pageerror", failed)
        self.page.on("response", answered)


@contextmanager
def visiting(
    browser: Browser,
    hub: str,
    email: str = "",
    password: str = "",
    *,
    size: tuple[int, int] = DESK,
    scheme: Scheme = "light",
) -> Generator[Visit]:
    """Open a window; signed in, if there is somebody to sign in."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,
        reduced_motion="reduce",
        locale="en-GB",
        timezone_id="Europe/Stockholm",
        permissions=["clipboard-read", "clipboard-write"],
    )
    context.set_default_timeout(PATIENCE_MS)
    try:
        if email:
            _sign_in(context, hub, email, password)
        visit = Visit(context.new_page(), f"{hub}/console/")
        visit.watch()
        yield visit
    finally:
        context.close()


def _sign_in(context: BrowserContext, hub: str, email: str, password: str) -> None:
    answer = context.request.post(
        f"{hub}/v1/session/cookie", data={"email": email, "password": password}
    )
    assert answer.ok, answer.text()


def grave_findings(page: Page, *rules: str) -> list[str]:
    """Return what axe finds serious or critical, by these rules or by all that it has.

    The script is handed over by the debugger: no page's policy is in its way.
    """
    page.evaluate(_axe())
    options: dict[str, Any] = {"resultTypes": ["violations"]}
    if rules:
        options["runOnly"] = {"type": "rule", "values": list(rules)}
    found = page.evaluate("options => axe.run(document, options)", options)
    return [
        f"{item['impact']} {item['id']}: {item['help']} at "
        + ", ".join(str(node["target"]) for node in item["nodes"][:4])
        + f" ({item['nodes'][0].get('failureSummary', '')})"
        for item in found["violations"]
        if item["impact"] in GRAVE
    ]


def _axe() -> str:
    assert AXE.is_file(), f"{AXE} is not there: run `make console` first"
    return Path(AXE).read_text(encoding="utf-8")
