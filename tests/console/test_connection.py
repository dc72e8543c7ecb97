"""A connection that is lost shows and heals; a hub below a path serves all the same."""

import re
from collections.abc import Generator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, expect

from app.embedded.network import answers_ready
from hansa_core import wire
from tests.console import heart
from tests.console.proxies import below_a_path
from tests.console.stage import Stage
from tests.console.visits import Visit, visiting
from tests.e2e.processes import ADMIN, BIN, clean_env, free_port, spawn, stop, until

PREFIX = "/teams/hansa"


def test_a_lost_connection_shows_and_heals(visit: Visit, stage: Stage) -> None:
    page = visit.open(f"f/{heart.SLUG}/runs/{stage.heart.runs['longitudinal']}")
    connection = page.get_by_role("banner").get_by_role("status")
    expect(connection).to_have_text("Live")
    stage.stack.kill("hub")
    expect(connection).to_have_text("Connection lost")
    expect(connection).to_have_text("Live")
    # And what happens from now on is seen again.
    client = stage.heart.client
    client.change_federation(heart.SLUG, _renamed("Heart disease, live again"))
    expect(page.get_by_text("Heart disease, live again").first).to_be_visible()
    client.change_federation(heart.SLUG, _renamed("Heart disease, four hospitals"))


def test_a_slow_connection_shows_the_name_before_the_scripts_have_come(visit: Visit) -> None:
    visit.page.route("**/assets/*.js", lambda route: route.abort())
    visit.page.goto(visit.base)
    expect(visit.page.get_by_role("status", name="Loading")).to_have_text("Hansa")
    visit.page.unroute_all()
    visit.open("")


def _renamed(name: str) -> wire.FederationChange:
    return wire.FederationChange(name=name)


@pytest.fixture
def proxied(stage: Stage, tmp_path: Path) -> Generator[str]:
    """The address of a second hub of the same data, below a path behind a proxy."""
    port = free_port()
    hub = f"http://127.0.0.1:{port}"
    with below_a_path(hub, PREFIX) as origin:
        env = {**stage.stack.state()["env"], "HANSA_PUBLIC_URL": f"{origin}{PREFIX}"}
        argv = (str(BIN / "hansa-hub"), "serve", "--port", str(port))
        process = spawn(argv, tmp_path / "hub.log", clean_env(**env))
        try:
            until(lambda: answers_ready("127.0.0.1", port), "a hub below a path")
            yield f"{origin}{PREFIX}"
        finally:
            stop(process)


def test_the_console_works_below_a_path(browser: Browser, stage: Stage, proxied: str) -> None:
    with visiting(browser, proxied, ADMIN, stage.stack.password) as visit:
        page = visit.open(f"f/{heart.SLUG}/runs")  # a deep link
        page.get_by_role("link", name="baseline").click()
        expect(page.get_by_role("heading", name="baseline")).to_be_visible()
        expect(page).to_have_url(re.compile(re.escape(f"{proxied}/console/f/{heart.SLUG}/runs/")))
        expect(page.get_by_role("banner").get_by_role("status")).to_have_text("Live")
        page.reload()
        expect(page.get_by_role("heading", name="baseline")).to_be_visible()
        page = visit.open(f"f/{heart.SLUG}/sites/enrol")
        page.get_by_role("button", name="Make the invitation").click()
        expect(page.get_by_text(f"hansa site enroll {proxied}")).to_be_visible()
        visit.settle()
        visit.require_clean()
        asked = page.evaluate("() => performance.getEntriesByType('resource').map(e => e.name)")
        assert all(str(url).startswith(f"{proxied}/") for url in asked), asked
