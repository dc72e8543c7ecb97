"""A thousand sites, and a run of five hundred rounds of fifty: usable, and bounded in the page."""

import re

from playwright.sync_api import Page, expect

from tests.console import large
from tests.console.stage import Stage
from tests.console.visits import Visit

MOST_ROWS = 80  # of a window's height, and what is kept ready around it
MOST_ELEMENTS = 4000  # of a page
SCALE = large.Scale()


def elements(page: Page) -> int:
    return int(page.evaluate("() => document.querySelectorAll('*').length"))


def test_a_thousand_sites_scroll_and_are_found(visit: Visit) -> None:
    page = visit.open(f"f/{large.SLUG}/sites")
    table = page.get_by_role("table", name="Sites")
    rows = table.get_by_role("row")
    expect(rows.nth(10)).to_be_visible()  # the first are there before the last have come
    expect(table).to_have_attribute("aria-rowcount", str(SCALE.sites + 1))
    assert rows.count() <= MOST_ROWS
    assert elements(page) <= MOST_ELEMENTS
    expect(table.get_by_role("row", name=re.compile("clinic-0001"))).to_be_in_viewport()
    page.mouse.wheel(0, 400_000)
    expect(table.get_by_role("row", name=re.compile("clinic-1000"))).to_be_in_viewport()
    assert rows.count() <= MOST_ROWS
    search = page.get_by_label(re.compile("name", re.IGNORECASE)).first
    search.fill("clinic-0777")
    expect(table.get_by_role("row", name=re.compile("clinic-0777"))).to_be_visible()
    expect(table).to_have_attribute("aria-rowcount", "2")


def test_a_run_of_five_hundred_rounds_is_drawn_with_bounded_means(
    visit: Visit, stage: Stage
) -> None:
    page = visit.open(f"f/{large.SLUG}/runs/{stage.registry.run_id}")
    table = page.get_by_role("table", name="Rounds", exact=True)
    expect(table.get_by_role("row").nth(5)).to_be_visible()
    expect(table).to_have_attribute("aria-rowcount", str(SCALE.rounds + 1))
    expect(page.get_by_text(f"{SCALE.rounds} of {SCALE.rounds}").first).to_be_visible()
    visit.settle()
    assert table.get_by_role("row").count() <= MOST_ROWS
    assert elements(page) <= MOST_ELEMENTS
    table.get_by_role("link", name="Round 500").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_text("clinic-", exact=False).first).to_be_visible()
    assert elements(page) <= 2 * MOST_ELEMENTS
