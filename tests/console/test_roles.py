"""Roles hide what they may not do; the hub refuses it all the same."""

from collections.abc import Callable

import pytest
from playwright.sync_api import expect

from hansa_core.states import Role
from tests.console import heart
from tests.console.stage import Stage
from tests.console.visits import Visit

SITES, RUNS = f"f/{heart.SLUG}/sites", f"f/{heart.SLUG}/runs"
MAY_ENROL = {Role.OWNER, Role.OPERATOR}
MAY_RUN = {Role.OWNER, Role.RESEARCHER}
MAY_AUDIT = {Role.OWNER, Role.AUDITOR}


@pytest.mark.parametrize("role", list(Role))
def test_a_role_sees_what_it_may_do(visits: Callable[..., Visit], stage: Stage, role: Role) -> None:
    visit = visits(role)
    page = visit.open(SITES)
    visit.settle()
    expect(page.get_by_text("leipzig").first).to_be_visible()
    enrols, runs, governs = role in MAY_ENROL, role in MAY_RUN, role is Role.OWNER
    expect(page.get_by_role("link", name="Enrol a site")).to_have_count(int(enrols))
    expect(page.get_by_role("button", name="Compare and approve leipzig")).to_have_count(
        int(enrols)
    )
    places = page.get_by_role("navigation", name="Pages")
    expect(places.get_by_role("link", name="Audit", exact=True)).to_have_count(
        int(role in MAY_AUDIT)
    )
    expect(places.get_by_role("link", name="Channels")).to_have_count(int(governs))
    expect(places.get_by_role("link", name="Deployment")).to_have_count(0)  # administrators'

    page = visit.open(f"{RUNS}/{stage.heart.runs['longitudinal']}")
    visit.settle()
    expect(page.get_by_role("link", name="Receipts")).to_be_visible()
    for name in ("Pause", "Cancel run"):
        expect(page.get_by_role("button", name=name)).to_have_count(int(runs))
    expect(page.get_by_role("link", name="Fork")).to_have_count(int(runs))


@pytest.mark.parametrize("path", ["sites/enrol", "runs/new"])
def test_an_auditor_who_knows_the_address_is_told_whose_it_is(
    visits: Callable[..., Visit], path: str
) -> None:
    visit = visits(Role.AUDITOR)
    page = visit.open(f"f/{heart.SLUG}/{path}")
    visit.settle()
    expect(page.get_by_text("Your role does not")).to_be_visible()
    main = page.get_by_role("main")
    expect(main.get_by_role("button")).to_have_count(0)


def test_the_hub_refuses_what_the_console_hides(visits: Callable[..., Visit], stage: Stage) -> None:
    page = visits(Role.AUDITOR).open(RUNS)
    run_id = stage.heart.runs["longitudinal"]
    status = page.evaluate(
        """path => fetch(new URL("../" + path, document.baseURI), {
            method: "POST", headers: {"Hansa-Client": "console"}}).then(answer => answer.status)""",
        f"v1/federations/{heart.SLUG}/runs/{run_id}/cancel",
    )
    assert status == 403


def test_another_sites_page_cannot_act_with_the_cookie(
    visits: Callable[..., Visit], stage: Stage
) -> None:
    page = visits().open(RUNS)
    status = page.evaluate(
        """path => fetch(new URL("../" + path, document.baseURI), {method: "POST"})
            .then(answer => answer.status)""",
        f"v1/federations/{heart.SLUG}/runs/{stage.heart.runs['longitudinal']}/cancel",
    )
    assert status == 403
