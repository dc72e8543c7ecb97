"""Who may come in, and where they come out."""

import re
from collections.abc import Callable

from playwright.sync_api import Browser, Page, expect

from tests.console import heart
from tests.console.stage import Stage
from tests.console.visits import Visit, visiting
from tests.e2e.processes import ADMIN


def sign_in(page: Page, email: str, password: str) -> None:
    page.get_by_label("E-mail").fill(email)
    page.get_by_role("textbox", name="Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def test_a_wrong_password_is_refused_and_the_right_one_leads_where_one_wanted_to_go(
    browser: Browser, stage: Stage
) -> None:
    with visiting(browser, stage.stack.address) as visit:
        page = visit.open(f"f/{heart.SLUG}/sites?state=active")
        expect(page).to_have_url(re.compile(r"/sign-in\?next="))
        sign_in(page, ADMIN, "not the password at all")
        expect(page.get_by_role("alert")).to_be_visible()
        sign_in(page, ADMIN, stage.stack.password)
        expect(page.get_by_role("heading", name="Sites", level=1)).to_be_visible()
        assert page.url.endswith(f"/console/f/{heart.SLUG}/sites?state=active")
        token = page.evaluate("() => document.cookie + JSON.stringify(localStorage)")
        assert "hansa_session" not in token  # no script can read it
        visit.require_clean()


def test_who_signs_out_is_out(browser: Browser, stage: Stage) -> None:
    with visiting(browser, stage.stack.address, ADMIN, stage.stack.password) as visit:
        page = visit.open("")
        page.get_by_role("button", name=re.compile(re.escape(ADMIN))).click()
        page.get_by_role("menuitem", name="Sign out").click()
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        page.goto(visit.base + "tokens")
        expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
        visit.require_clean()


def test_the_overview_counts_what_is_there(visits: Callable[..., Visit]) -> None:
    page = visits().open("")
    for name in ("Heart disease, four hospitals", "Lung CT screening"):
        expect(page.get_by_role("link", name=name)).to_be_visible()
    page.get_by_role("link", name="Heart disease, four hospitals").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Heart disease")
    expect(page.get_by_role("navigation", name="Pages").get_by_role("link")).not_to_have_count(0)
