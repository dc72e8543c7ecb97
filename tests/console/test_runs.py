"""Runs from the form to the receipts, trained by the stage's sites while somebody watches."""

import re
from uuid import UUID

from playwright.sync_api import Page, expect

from hansa_core.states import RunState
from tests.console import heart
from tests.console.stage import Stage
from tests.console.visits import Visit

RUN_ADDRESS = re.compile(r"/runs/([0-9a-f-]{36})(\?.*)?$")


def state_of(page: Page, state: str) -> None:
    """Wait until the run page's badge says so."""
    heading = page.get_by_role("heading", level=1)
    expect(heading.locator("xpath=..").get_by_text(state, exact=True)).to_be_visible()


def opened_run(page: Page) -> UUID:
    """Wait for the page of a run that was just made, and return the run's id."""
    expect(page).to_have_url(RUN_ADDRESS)
    found = RUN_ADDRESS.search(page.url)
    assert found is not None
    return UUID(found[1])


def test_a_run_from_the_form_is_watched_until_it_has_completed(visit: Visit, stage: Stage) -> None:
    page = visit.open(f"f/{heart.SLUG}/runs/new")
    page.get_by_role("textbox", name="Name", exact=True).fill("Not a name")
    create = page.get_by_role("button", name="Create and start")
    expect(create).to_be_disabled()  # the hub was asked, and would refuse it
    page.get_by_role("textbox", name="Name", exact=True).fill("from-the-form")
    page.get_by_role("textbox", name="Rounds", exact=True).fill("3")
    page.get_by_role("textbox", name="Fewest sites").fill("4")
    would = page.get_by_role("region", name="What would happen")
    expect(would).to_contain_text("In all 3")
    for name in heart.HOSPITALS:
        expect(would).to_contain_text(name)
    expect(would).to_contain_text("suspended")  # why basel is not asked
    expect(create).to_be_enabled()
    create.click()

    run_id = opened_run(page)
    page.evaluate("() => { window.neverReloaded = true; }")
    state_of(page, "completed")
    expect(page.get_by_text("3 of 3").first).to_be_visible()
    assert page.evaluate("() => window.neverReloaded")
    run = stage.heart.client.run(heart.SLUG, run_id)
    assert run.state is RunState.COMPLETED
    assert run.plan.cohort.min_sites == 4
    table = page.get_by_role("table", name="Rounds")
    expect(table.get_by_role("row").filter(has_text="completed")).to_have_count(4)


def test_a_run_pauses_and_resumes(visit: Visit, stage: Stage) -> None:
    run = stage.heart.client.create_run(
        heart.SLUG, heart.a_plan("to-be-paused", rounds=500, cohort={"min_sites": 3})
    )
    page = visit.open(f"f/{heart.SLUG}/runs/{run.id}")
    state_of(page, "running")
    page.get_by_role("button", name="Pause").click()
    page.get_by_role("dialog").get_by_role("button", name="Pause").click()
    state_of(page, "paused")
    assert stage.heart.client.run(heart.SLUG, run.id).state is RunState.PAUSED
    page.get_by_role("button", name="Resume").click()
    state_of(page, "running")
    page.get_by_role("button", name="Cancel run").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel run").click()
    state_of(page, "cancelled")
    assert stage.heart.client.run(heart.SLUG, run.id).state is RunState.CANCELLED


def test_a_fork_goes_on_from_a_round_with_another_plan(visit: Visit, stage: Stage) -> None:
    baseline = stage.heart.runs["baseline"]
    page = visit.open(f"f/{heart.SLUG}/runs/{baseline}/fork?round=3")
    page.get_by_role("textbox", name="Name", exact=True).fill("forked-in-the-console")
    page.get_by_role("textbox", name="Rounds", exact=True).fill("2")
    changed = page.get_by_role("region", name="What is changed")
    expect(changed.get_by_role("row", name=re.compile("rounds"))).to_be_visible()
    page.get_by_role("button", name="Fork and start").click()
    run_id = opened_run(page)
    expect(page.get_by_role("link", name="baseline")).to_be_visible()
    run = stage.heart.client.run(heart.SLUG, run_id)
    assert run.parent_run_id == baseline
    assert stage.heart.client.checkpoint(heart.SLUG, run.base_checkpoint_id).round_number == 3
    assert run.plan.rounds == 2


def test_runs_are_compared_side_by_side(visit: Visit, stage: Stage) -> None:
    page = visit.open(f"f/{heart.SLUG}/runs")
    for name in ("baseline", "gentle-steps"):
        choice = page.get_by_role("checkbox", name=f"Compare {name}")
        choice.click()
        expect(choice).to_be_checked()  # once the address says so
    page.get_by_role("link", name="Compare", exact=True).click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Compare")
    for name in ("baseline", "gentle-steps"):
        expect(page.get_by_role("link", name=name).first).to_be_visible()
    expect(page.get_by_text("learning_rate").first).to_be_visible()  # what their plans differ in


def test_a_failed_run_shows_the_traceback_and_what_the_site_logged(
    visit: Visit, stage: Stage
) -> None:
    page = visit.open(f"f/{heart.SLUG}/runs/{stage.heart.runs['complete-cases']}")
    state_of(page, "failed")
    expect(page.get_by_text("'chol' is never filled in here").first).to_be_visible()
    page.get_by_text("Traceback and log").first.click()
    traceback = page.get_by_role("region", name="Traceback at switzerland")
    expect(traceback).to_contain_text("drop_missing leaves 0 of 123 patients")
    log = page.get_by_role("region", name="End of the log at switzerland")
    expect(log).to_contain_text("column 'chol' is empty in 123 of 123 rows")


def test_receipts_are_verified_in_the_browser(visit: Visit, stage: Stage) -> None:
    page = visit.open(f"f/{heart.SLUG}/runs/{stage.heart.runs['baseline']}/receipts")
    hub_key = page.get_by_label("The hub's key")
    hub_key.fill(stage.heart.client.hub().fingerprint)
    keys = {
        name: stage.heart.federation.identity(name).record.fingerprint for name in heart.HOSPITALS
    }
    page.get_by_label("The sites' keys").fill("\n".join(f"{it}={key}" for it, key in keys.items()))
    verify = page.get_by_role("button", name="Verify in this browser")
    verify.click()
    expect(page.get_by_text("Nothing is wrong")).to_be_visible()
    hub_key.fill(next(iter(keys.values())))  # another's key
    verify.click()
    expect(page.get_by_text("Something is wrong")).to_be_visible()
