"""Every page, light and dark: clean, within its own origin, and without what axe finds serious."""

import pytest
from playwright.sync_api import Browser, expect

from tests.console.places import PLACES, path_of
from tests.console.stage import Stage
from tests.console.visits import PHONE, Visit, grave_findings, visiting


@pytest.mark.parametrize("name", [name for name in PLACES if name != "sign-in"])
def test_a_page_is_accessible_in_light_and_dark_and_fits_a_phone(
    visit: Visit, stage: Stage, name: str
) -> None:
    path = path_of(stage, name)
    page = visit.open(path)
    visit.settle()
    assert not grave_findings(page)
    page.emulate_media(color_scheme="dark")
    visit.open(path)  # anew: no colour is on its way from one scheme to the other
    visit.settle()
    expect(page.locator("html")).to_have_attribute("data-mantine-color-scheme", "dark")
    assert not grave_findings(page, "color-contrast")
    page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
    expect(page.get_by_role("button", name="Navigation")).to_be_visible()
    # Charts follow the new width with a frame of their own; a page that stays too wide fails here.
    page.wait_for_function("() => document.documentElement.scrollWidth <= window.innerWidth")
    assert not visit.refusals


def test_signing_in_is_accessible(browser: Browser, stage: Stage) -> None:
    with visiting(browser, stage.stack.address) as visit:
        page = visit.open(PLACES["sign-in"])
        assert not grave_findings(page)
        page.emulate_media(color_scheme="dark")
        assert not grave_findings(page, "color-contrast")
        visit.require_clean()


def test_colours_of_both_schemes_outlive_the_build(visit: Visit) -> None:
    visit.open("f/heart")
    lights = visit.page.get_by_role("banner").get_by_role("status").locator("span").first
    colour = "element => getComputedStyle(element).backgroundColor"
    expect(lights).to_be_visible()
    light = lights.evaluate(colour)
    visit.page.emulate_media(color_scheme="dark")
    assert {light, lights.evaluate(colour)}.isdisjoint({"rgba(0, 0, 0, 0)", "rgb(0, 0, 0)"})
