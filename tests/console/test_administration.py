"""What owners and administrators do: found and govern a federation, people, tokens, channels."""

import re
from pathlib import Path

from playwright.sync_api import Page, expect

from hansa_core.states import Role
from tests.console import heart
from tests.console.stage import Stage
from tests.console.visits import Visit
from tests.e2e.processes import free_port


def said(page: Page, words: str) -> None:
    """Wait for a notification."""
    expect(page.get_by_role("alert").filter(has_text=words).first).to_be_visible()


def test_a_federation_is_founded_and_governed(visit: Visit, stage: Stage) -> None:
    page = visit.open("")
    page.get_by_role("button", name="New federation").click()
    page.get_by_role("textbox", name="Name").fill("Night shift, Örebro")
    expect(page.get_by_role("textbox", name="Slug")).to_have_value("night-shift-orebro")
    page.get_by_role("button", name="Create federation").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Night shift, Örebro")

    visit.open("f/night-shift-orebro/settings")
    page.get_by_role("textbox", name="Description").fill("Those who are awake.")
    page.get_by_role("button", name="Save").first.click()
    said(page, "The settings are saved")
    page.get_by_role("textbox", name="Updates: newest rounds").fill("3")
    page.get_by_role("button", name="Show what it deletes").click()
    expect(page.get_by_text("the next sweep would delete")).to_be_visible()
    page.get_by_role("region", name="Retention").get_by_role("button", name="Save").click()
    said(page, "The retention policy is saved")
    kept = stage.heart.client.federation("night-shift-orebro")
    assert kept.description == "Those who are awake."
    assert kept.retention.updates_rounds == 3


def test_members_come_change_and_go(visit: Visit) -> None:
    page = visit.open("f/lungs/members")
    email = heart.PEOPLE[Role.AUDITOR][0]
    page.get_by_role("textbox", name="E-mail of an account").fill("nobody@nowhere.example")
    page.get_by_role("button", name="Add", exact=True).click()
    expect(page.get_by_role("alert").filter(has_text="nobody@nowhere.example")).to_be_visible()
    page.get_by_role("textbox", name="E-mail of an account").fill(email)
    page.get_by_role("button", name="Add", exact=True).click()
    row = page.get_by_role("row").filter(has_text=email)
    expect(row).to_be_visible()
    row.get_by_role("combobox").click()
    page.get_by_role("option", name="auditor", exact=True).click()
    said(page, "is auditor now")
    row.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(row).to_have_count(0)


def test_a_token_is_shown_once_and_revoked(visit: Visit) -> None:
    page = visit.open("tokens")
    page.get_by_role("button", name="New token").click()
    page.get_by_role("textbox", name="Name").fill("paper figures")
    page.get_by_role("button", name="Create token").click()
    expect(page.get_by_text("The token paper figures, shown this once")).to_be_visible()
    row = page.get_by_role("row").filter(has_text="paper figures")
    row.get_by_role("button", name="Revoke").click()
    page.get_by_role("dialog").get_by_role("button", name="Revoke").click()
    expect(row).to_have_count(0)
    visit.open("tokens")
    expect(page.get_by_text("shown this once")).to_have_count(0)


def test_a_channel_is_made_tried_and_removed(visit: Visit) -> None:
    page = visit.open("f/lungs/channels")
    page.get_by_role("button", name="New channel").first.click()
    target = f"http://127.0.0.1:{free_port()}/nobody"
    page.get_by_role("textbox", name="URL").fill(target)
    page.get_by_role("button", name="Create channel").click()
    expect(page.get_by_text("The webhook's secret, shown this once")).to_be_visible()
    expect(page.get_by_text(target)).to_be_visible()
    page.get_by_role("button", name="Send a test").click()
    said(page, "The test message was not delivered")
    page.get_by_role("button", name="Remove").click()
    page.get_by_role("dialog").get_by_role("button", name="Remove").click()
    expect(page.get_by_text("No channel yet")).to_be_visible()


def test_an_account_is_made_and_disabled(visit: Visit) -> None:
    page = visit.open("people")
    page.get_by_role("button", name="New account").click()
    page.get_by_role("textbox", name="Name").fill("Nils Holm")
    page.get_by_role("textbox", name="E-mail").fill("nils.holm@heart.example")
    page.get_by_label(re.compile("^Password")).fill("short")
    page.get_by_role("button", name="Create account").click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_be_visible()  # and says why
    page.get_by_label(re.compile("^Password")).fill("a long enough password")
    page.get_by_role("button", name="Create account").click()
    said(page, "Nils Holm has an account")
    row = page.get_by_role("row").filter(has_text="nils.holm@heart.example")
    row.get_by_role("button", name="Disable").click()
    page.get_by_role("dialog").get_by_role("button", name="Disable").click()
    expect(row.get_by_text("disabled")).to_be_visible()


def test_a_model_is_uploaded_from_the_browser(visit: Visit, stage: Stage, tmp_path: Path) -> None:
    client = stage.heart.client
    newest = client.model(heart.SLUG, heart.MODEL).latest_checkpoint_id
    assert newest is not None
    file = tmp_path / "base.safetensors"
    base = client.download_checkpoint(heart.SLUG, newest, file)
    page = visit.open(f"f/{heart.SLUG}/models?add=1")
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("textbox", name="Name").fill("from-a-browser")
    dialog.locator("input[type=file]").set_input_files(file)
    dialog.get_by_role("button", name="Add the model").click()
    said(page, "Model from-a-browser is there")
    made = client.model(heart.SLUG, "from-a-browser").latest_checkpoint_id
    assert made is not None
    assert client.checkpoint(heart.SLUG, made).digest == base.digest


def test_a_receipt_is_held_and_released(visit: Visit, stage: Stage) -> None:
    page = visit.open(f"f/{heart.SLUG}/runs/{stage.heart.runs['baseline']}/receipts?receipt=2")
    held = page.get_by_role("region", name="Hold")
    page.get_by_role("textbox", name="Hold its files").fill("audit of 2026, case 14")
    page.get_by_role("button", name="Hold", exact=True).click()
    expect(held).to_contain_text("audit of 2026, case 14")
    held.get_by_role("button", name="Release").click()
    page.locator("form").get_by_role("button", name="Release").click()  # the question's
    expect(page.get_by_role("textbox", name="Hold its files")).to_be_visible()


def test_an_alert_is_acknowledged(visit: Visit) -> None:
    page = visit.open(f"f/{heart.SLUG}/alerts")
    item = page.get_by_role("listitem").filter(has_text="Run failed").first
    item.get_by_role("button", name="Acknowledge").click()
    expect(item).to_have_count(0)
    visit.open(f"f/{heart.SLUG}/alerts?show=all")
    expect(page.get_by_role("listitem").filter(has_text="Run failed").first).to_contain_text(
        "acknowledged by"
    )
