"""A site comes in: the commands that the wizard shows, run as they are."""

import shlex
import subprocess
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.console import heart
from tests.console.stage import Stage
from tests.console.visits import Visit
from tests.e2e.processes import BIN, CHECKOUT, LONG_SECONDS, clean_env, spawn, stop

NAME = "tromso"


def pasted(page: Page, label: str) -> str:
    """Return what the button of that label copies."""
    page.get_by_role("button", name=label).click()
    return str(page.evaluate("() => navigator.clipboard.readText()"))


@pytest.mark.parametrize("name", [NAME])
def test_a_site_enrols_by_the_pasted_commands_and_is_approved_by_its_fingerprint(
    visit: Visit, stage: Stage, tmp_path: Path, name: str
) -> None:
    page = visit.open(f"f/{heart.SLUG}/sites/enrol")
    page.get_by_role("combobox", name="Labels").fill("region=arctic")
    page.get_by_role("combobox", name="Labels").press("Enter")
    page.get_by_role("button", name="Make the invitation").click()
    page.get_by_label("The site's name").fill(name)
    page.get_by_label("Its trainer").fill(heart.TRAINER)
    expect(page.get_by_text("Waiting for the site")).to_be_visible()
    enrol = pasted(page, "Copy the command that enrols")
    start = pasted(page, "Copy the command that starts the site")

    env = clean_env(HANSA_SITE_DIR=str(tmp_path / name), PATH=f"{BIN}:/usr/bin:/bin")
    done = subprocess.run(  # noqa: S603 -- what the console says
        shlex.split(enrol), env=env, cwd=CHECKOUT, capture_output=True, text=True,
        timeout=LONG_SECONDS, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    site = next(it for it in stage.heart.client.sites(heart.SLUG) if it.name == name)
    assert site.labels == {"region": "arctic"}
    assert site.fingerprint in done.stdout

    # It shows without a reload, and cannot be approved unseen.
    expect(page.get_by_role("link", name=name, exact=True)).to_be_visible()
    approve = page.get_by_role("button", name="Approve", exact=True)
    expect(approve).to_be_disabled()
    told = page.get_by_label("What the operator tells you")
    told.fill(site.fingerprint[:-4] + ("aaaa" if not site.fingerprint.endswith("aaaa") else "bbbb"))
    expect(page.get_by_role("alert").filter(has_text="This is another key")).to_be_visible()
    expect(approve).to_be_disabled()
    told.fill(site.fingerprint)
    approve.click()
    expect(page.get_by_text("It may take part, and has not asked for work yet")).to_be_visible()

    process = spawn(shlex.split(start), tmp_path / "site.log", env)
    try:
        expect(page.get_by_text("It is there and waits for work")).to_be_visible()
    finally:
        stop(process)
    stage.heart.client.revoke_site(heart.SLUG, site.id, "the test is over")


def test_a_federation_without_sites_says_how_to_begin(visit: Visit) -> None:
    page = visit.open("f/lungs/sites")
    expect(page.get_by_role("link", name="Enrol a site").first).to_be_visible()
    page = visit.open("f/lungs/runs")
    expect(page.get_by_text("hansa run create --federation lungs")).to_be_visible()
    page = visit.open("f/lungs/models")
    expect(page.get_by_text("hansa model create", exact=False).first).to_be_visible()
