"""Finding runs among many, and rounds counted and told from the newest."""

import json
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from app.domain.clock import utc_now
from app.services.transactions import Transactions
from app.settings import Settings
from hansa.cli.main import main
from hansa_core import wire
from tests.factories import (
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_plan,
    a_run,
    an_active_site,
    sites_online,
    work_off,
)
from tests.serving import hub_on_a_socket
from tests.tensors import a_delta, encode

UPDATE_BYTES = len(encode(a_delta(1)))
CONTROL = {name: it for name, it in a_delta(2).items() if it.dtype.kind == "f"}  # a part


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def sites(federation: Federation) -> list[ActiveSite]:
    made = sites_online(federation, "bergen", "oslo", "turku")
    a_model(federation)
    return made


def names(federation: Federation, **params: Any) -> list[str]:
    return [run["name"] for run in federation.get("/runs", **params)["items"]]


def rounds(federation: Federation, run_id: UUID, **params: Any) -> wire.Page[wire.Round]:
    found = federation.get(f"/runs/{run_id}/rounds", **params)
    return wire.Page[wire.Round].model_validate(found)


def hold_round(federation: Federation, *sites: ActiveSite) -> None:
    """Let the run open its round, and answer it."""
    work_off(federation)
    for number, site in enumerate(sites):
        site.answer(site.claim(), a_delta(number))
    work_off(federation)


def test_runs_are_narrowed_by_state_model_and_name(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    a_model(federation, name="heart")
    models = {it["name"]: it["id"] for it in federation.get("/models")["items"]}
    a_run(federation, name="lr-sweep-1", cohort={"min_sites": 1})
    hold_round(federation, *sites)
    federation.post("/runs", {"plan": a_plan(name="lr-sweep-2"), "start": False})
    federation.post("/runs", {"plan": a_plan(name="lr_sweep", model="heart"), "start": False})
    assert names(federation, state="completed") == ["lr-sweep-1"]
    assert names(federation, state=["draft", "completed"]) == [
        "lr_sweep",
        "lr-sweep-2",
        "lr-sweep-1",
    ]
    assert names(federation, state="failed") == []
    assert names(federation, model_id=models["heart"]) == ["lr_sweep"]
    assert names(federation, model_id=models["tumor"], state="draft") == ["lr-sweep-2"]
    assert names(federation, model_id=str(uuid4())) == []
    assert names(federation, q="lr-SWEEP") == ["lr-sweep-2", "lr-sweep-1"]
    assert names(federation, q="lr_s") == ["lr_sweep"]  # no wildcard


def test_another_federations_runs_are_not_found_by_any_filter(
    client: TestClient,
    transactions: Transactions,
    settings: Settings,
    federation: Federation,
) -> None:
    other = a_federation(client, transactions, settings, "baltic")
    model_id = str(a_model(other).model_id)
    run = a_run(other, name="secret")
    assert names(other, model_id=model_id, q="secret", state="queued") == ["secret"]
    assert names(federation, model_id=model_id) == []
    assert names(federation, q="secret", state="queued") == []
    federation.get(f"/runs/{run.id}/rounds", newest=True, counts=True, expect=404)


def test_pages_of_narrowed_runs_neither_repeat_nor_leave_out(federation: Federation) -> None:
    a_model(federation)
    for number in range(5):
        plan = a_plan(name=f"sweep-{number}")
        federation.post("/runs", {"plan": plan, "start": False})
        federation.post("/runs", {"plan": a_plan(name=f"other-{number}"), "start": False})
    shown: list[str] = []
    cursor: dict[str, Any] = {}
    while True:
        page = federation.get("/runs", q="sweep", state="draft", limit=2, **cursor)
        shown += [run["name"] for run in page["items"]]
        last = page["items"][-1]
        federation.post(f"/runs/{last['id']}/start", expect=200)  # a draft no more
        late = a_plan(name=f"sweep-late-{last['name']}")
        federation.post("/runs", {"plan": late, "start": False})
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    assert shown == ["sweep-4", "sweep-3", "sweep-2", "sweep-1", "sweep-0"]


def test_the_newest_rounds_come_first_and_pages_go_back_in_time(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=6)
    for _ in range(4):
        hold_round(federation, *sites)
    first = rounds(federation, run.id, newest=True, limit=2)
    assert [it.number for it in first.items] == [5, 4]  # the fifth is open
    hold_round(federation, *sites)  # the sixth opens between two pages
    second = rounds(federation, run.id, newest=True, limit=2, cursor=first.next_cursor)
    assert [it.number for it in second.items] == [3, 2]
    last = rounds(federation, run.id, newest=True, limit=2, cursor=second.next_cursor)
    assert [it.number for it in last.items] == [1]
    assert last.next_cursor is None
    assert [it.number for it in rounds(federation, run.id, limit=3).items] == [1, 2, 3]


def test_rounds_that_were_held_again_keep_their_order(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=2)
    hold_round(federation, *sites)
    federation.post(f"/runs/{run.id}/pause", {"round": "burn"}, expect=200)
    federation.post(f"/runs/{run.id}/resume", expect=200)
    work_off(federation)
    found = rounds(federation, run.id, newest=True, counts=True).items
    assert [(it.number, it.retry) for it in found] == [(2, 1), (2, 0), (1, 0)]
    told = [it.counts for it in found]
    assert [(it.open, it.cancelled, it.done) for it in told if it] == [
        (3, 0, 0),
        (0, 3, 0),
        (0, 0, 3),
    ]


def test_a_rounds_counts_follow_its_tasks(federation: Federation, sites: list[ActiveSite]) -> None:
    an_active_site(federation, "never-seen")  # left out, with a reason
    run = a_run(federation, cohort={"min_sites": 1})

    def counts() -> wire.RoundCounts:
        [listed] = rounds(federation, run.id, counts=True).items
        assert listed.counts is not None
        assert listed.counts == federation.round(run.id, 1).counts
        return listed.counts

    work_off(federation)
    assert counts() == wire.RoundCounts(open=3, excluded=1)
    bergen, oslo, turku = sites
    task = bergen.claim()
    assert counts() == wire.RoundCounts(open=2, claimed=1, excluded=1)
    bergen.answer(task, a_delta(1))
    assert oslo.fail(oslo.claim(), "out of memory").status_code == 204
    turku.claim()
    assert counts() == wire.RoundCounts(
        claimed=1, done=1, failed=1, excluded=1, bytes_up=UPDATE_BYTES
    )
    work_off(federation, now=utc_now() + timedelta(seconds=31))
    assert counts() == wire.RoundCounts(done=1, failed=1, late=1, excluded=1, bytes_up=UPDATE_BYTES)


def test_parts_of_updates_count_as_bytes(federation: Federation, sites: list[ActiveSite]) -> None:
    run = a_run(federation, strategy={"name": "scaffold"})
    work_off(federation)
    for site in sites:
        site.answer(site.claim(), a_delta(1), {"control": CONTROL})
    work_off(federation)
    counts = federation.round(run.id, 1).counts
    assert counts is not None
    assert counts.bytes_up == 3 * (UPDATE_BYTES + len(encode(CONTROL)))


def test_rounds_are_counted_only_where_that_is_asked_for(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation)
    hold_round(federation, *sites)
    assert [it.counts for it in rounds(federation, run.id).items] == [None]


def test_the_command_line_narrows_its_lists_too(
    federation: Federation,
    sites: list[ActiveSite],
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    an_active_site(federation, "never-seen")
    a_run(federation, name="trained", cohort={"min_sites": 1})
    hold_round(federation, *sites)
    for name in ("draft", "draft-2"):
        federation.post("/runs", {"plan": a_plan(name=name), "start": False})

    def told(*arguments: str) -> Any:
        monkeypatch.setattr(sys, "argv", ["hansa", *arguments, "--json"])
        with pytest.raises(SystemExit, match=r"^0$"):
            main()
        return json.loads(capsys.readouterr().out)

    with hub_on_a_socket(settings) as address:
        monkeypatch.setenv("HANSA_CONFIG", str(tmp_path / "config.json"))
        monkeypatch.setenv("HANSA_URL", address)
        monkeypatch.setenv("HANSA_TOKEN", federation.owner.token)
        found = told("run", "list", "--state", "draft", "--state", "failed")
        assert [run["name"] for run in found] == ["draft-2", "draft"]
        assert told("run", "show", "draft")["name"] == "draft"  # not the newer draft-2
        assert [site["name"] for site in told("sites", "list", "--offline")] == ["never-seen"]
        assert told("sites", "list", "--online", "--state", "suspended") == []
