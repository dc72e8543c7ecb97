"""Sites that die, are suspended and are revoked, seen by somebody who only looks."""

from collections.abc import Generator

import pytest
from playwright.sync_api import expect

from hansa_core.states import SiteState
from tests.console import heart
from tests.console.database import miss
from tests.console.stage import Stage
from tests.console.visits import Visit
from tests.e2e.processes import Site, until

NAME = "aalborg"


@pytest.fixture(scope="module")
def guest(stage: Stage) -> Generator[Site]:
    """A site at work that only these tests know."""
    site = heart.join(stage.heart, NAME, {"region": "guest"})
    yield site
    site.stop()


def test_a_killed_site_is_missed_and_comes_back(visit: Visit, stage: Stage, guest: Site) -> None:
    site_id = stage.heart.federation.site_id(NAME)
    page = visit.open(f"f/{heart.SLUG}/sites/{site_id}")
    online = page.get_by_text("online", exact=True)
    expect(online.first).to_be_visible()  # when it has started
    guest.kill()
    expect(online).to_have_count(0)
    miss(stage.stack, site_id)  # a quarter of an hour passes
    page.get_by_role("link", name="Alerts").click()
    expect(page.get_by_role("heading", name="Alerts", level=1)).to_be_visible()
    expect(page.get_by_text(NAME).first).to_be_visible()
    guest.start()
    page.go_back()
    expect(online.first).to_be_visible()


def test_a_revoked_site_is_out_for_ever(visit: Visit, stage: Stage, guest: Site) -> None:
    site_id = stage.heart.federation.site_id(NAME)
    page = visit.open(f"f/{heart.SLUG}/sites/{site_id}")
    page.get_by_role("button", name="Suspend").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Reason").fill("looks odd")
    dialog.get_by_role("button", name="Suspend").click()
    expect(page.get_by_text("looks odd").first).to_be_visible()
    page.get_by_role("button", name="Revoke").click()
    revoke = dialog.get_by_role("button", name="Revoke")
    expect(revoke).to_be_disabled()  # until the name is typed
    dialog.get_by_label(f"Type {NAME} to go on").fill(NAME)
    revoke.click()
    expect(page.get_by_text("revoked", exact=True).first).to_be_visible()
    expect(page.get_by_role("button", name="Revoke")).to_have_count(0)
    assert stage.heart.client.site(heart.SLUG, site_id).state is SiteState.REVOKED
    process = guest.process
    assert process is not None
    until(lambda: process.poll() is not None, "the site's end")
