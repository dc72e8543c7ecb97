"""A preview says what the run then does, and stores nothing."""

import json
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.states import RoundKind, RunState
from tests.e2e.processes import Cli
from tests.factories import (
    Federation,
    a_federation,
    a_model,
    a_plan,
    a_run,
    an_active_site,
    change_state,
    sites_online,
    work_off,
)
from tests.identities import PASSWORD
from tests.serving import hub_on_a_socket
from tests.tensors import a_delta

NAMES = ("bergen", "espoo", "oslo", "turku", "umea")


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    made = a_federation(client, transactions, settings)
    a_model(made)
    return made


def preview(federation: Federation, **plan: Any) -> wire.RunPreview:
    found = federation.post("/runs/preview", {"plan": a_plan(**plan)}, expect=200)
    return wire.RunPreview.model_validate(found)


@pytest.mark.parametrize(
    "plan",
    [
        {},
        {"cohort": {"min_sites": 2, "choose": "random", "size": 2, "over_select": 1}},
        {"cohort": {"choose": "weighted", "size": 3}, "seed": 7},
        {"cohort": {"choose": "random", "size": 2, "pinned": ["umea"]}, "seed": 3},
        {"cohort": {"min_sites": 1, "labels": {"region": "north"}}},
        {"buffer": {"size": 2, "concurrency": 3}},
        {"evaluation": {"every": 1, "evaluators": ["oslo"]}},
        {"rounds": 0, "evaluation": {"final": True}},
    ],
)
def test_who_is_previewed_is_who_the_first_round_asks(
    federation: Federation, plan: dict[str, Any]
) -> None:
    sites = sites_online(federation, *NAMES)
    an_active_site(federation, "away")
    change_state(federation, sites[1], "suspend")
    labelled = federation.client.put(
        f"/v1/federations/{federation.slug}/sites/{sites[2].id}/labels",
        json={"labels": {"region": "north"}},
        headers=federation.owner.headers,
    )
    assert labelled.status_code == 200, labelled.text
    told = preview(federation, **plan)
    assert told.waits_for is None
    run = a_run(federation, **plan)
    work_off(federation)
    opened = federation.round(run.id, 1)
    assert told.site_names == sorted(task.site_name for task in opened.tasks)
    assert told.asked == len(opened.tasks)
    assert told.excluded == opened.excluded
    assert {"away", "espoo"} <= {it.site for it in told.excluded}
    assert told.plan_digest == federation.run(run.id).plan_digest
    assert told.plan == federation.run(run.id).plan


def test_a_run_that_would_wait_says_for_what(federation: Federation) -> None:
    sites_online(federation, "oslo")
    an_active_site(federation, "away")
    told = preview(federation)
    run = a_run(federation)
    work_off(federation)
    assert told.waits_for == "1 of 2 sites online: waiting for away (never seen)"
    assert federation.run(run.id).state_reason == told.waits_for
    assert (told.eligible, told.asked, told.site_names) == (1, 2, [])
    assert [it.site for it in told.excluded] == ["away"]
    assert told.bytes_per_round == 2 * (told.bytes_down + told.bytes_up)


def test_the_bytes_are_those_that_a_run_moves(federation: Federation) -> None:
    sites = sites_online(federation, "bergen", "oslo", "lab")
    plan = {"rounds": 2, "evaluation": {"every": 2, "final": True, "evaluators": ["lab"]}}
    told = preview(federation, **plan)
    run = a_run(federation, **plan)
    for _ in range(3):
        work_off(federation)
        for site in sites:
            poll = site.poll()
            if poll.status_code != 200:
                continue  # no evaluation at the lab in the second round
            task = wire.Task.model_validate(poll.json())
            if task.kind is RoundKind.EVALUATE:
                assert site.evaluate(task, {"loss": 1.0}, 5).status_code == 201
            else:
                report = wire.Evaluation(num_examples=5, metrics={"loss": 1.0})
                site.answer(task, a_delta(1), evaluation=report if task.evaluate else None)
    work_off(federation)
    ended = federation.run(run.id)
    assert (ended.state, ended.bytes_moved) == (RunState.COMPLETED, told.bytes_total)
    assert federation.round(run.id, 1).tasks[0].update_size == told.bytes_up
    assert told.bytes_down == told.checkpoint.size
    assert told.bytes_per_round == 2 * (told.bytes_down + told.bytes_up) + told.checkpoint.size
    # Now there is a past to estimate from.
    assert (told.seconds_per_round, told.seconds_total, told.estimated_from) == (None, None, None)
    after = preview(federation, rounds=10)
    assert after.seconds_per_round is not None
    assert after.seconds_per_round > 0
    assert after.seconds_total == after.seconds_per_round * 10
    assert after.estimated_from == "median of the last 2 rounds of this model, with 2 sites"


def test_codecs_and_parts_change_what_is_sent(federation: Federation) -> None:
    sites_online(federation, *NAMES)
    exact = preview(federation)
    half = preview(federation, codec={"name": "bf16"})
    assert half.bytes_up < exact.bytes_up
    assert half.bytes_down == exact.bytes_down
    controlled = preview(federation, strategy={"name": "scaffold"})
    assert controlled.bytes_up > exact.bytes_up
    assert controlled.bytes_down > exact.bytes_down


def test_every_wrong_field_is_told_at_once_as_it_is_of_a_run(federation: Federation) -> None:
    for wrong in (
        {"rounds": -1, "cohort": {"min_sites": 0}, "strategy": {"name": "none"}},
        {"model": "none-such", "training": {"large": 2**70}},
        {"tensors": {"frozen": ["no.such.tensor"]}, "training": {"large": 2**70}},
    ):
        body = {"plan": a_plan(**wrong)}
        told = federation.post("/runs/preview", body, expect=422)
        assert told == federation.post("/runs", body, expect=422)
        assert len(told["errors"]) == len(wrong)
    stranger = {"plan": a_plan(), "checkpoint_id": "00000000-0000-7000-8000-000000000000"}
    told = federation.post("/runs/preview", stranger, expect=422)
    assert told == federation.post("/runs", stranger, expect=422)
    assert [it["path"] for it in told["errors"]] == ["checkpoint_id"]


def test_nothing_is_stored_and_a_draft_of_the_plan_can_follow(federation: Federation) -> None:
    sites_online(federation, *NAMES[:2])
    before = federation.get("/events")
    told = preview(federation, evaluation={"every": 1})
    assert federation.get("/events") == before
    assert federation.get("/runs")["items"] == []
    assert told.warnings == [
        "a round needs the answers of all 2 sites: if a site fails or is late the round fails, "
        "and the run fails with it"
    ]


def test_the_command_shows_what_the_hub_says(
    federation: Federation, settings: Settings, tmp_path: Path
) -> None:
    sites_online(federation, "oslo", "turku")
    an_active_site(federation, "away")
    told = preview(federation)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(a_plan()))
    hansa = Cli(tmp_path / "config.json", env={"HANSA_FEDERATION": federation.slug})
    with hub_on_a_socket(settings) as hub:
        hansa("login", hub, "--email", federation.owner.email, "--password-stdin", stdin=PASSWORD)
        shown = hansa("run", "preview", str(plan)).stdout
        as_json = hansa("run", "preview", str(plan), "--json").stdout
        newest = ("--checkpoint", str(told.checkpoint.id))
        based = hansa("run", "preview", str(plan), *newest, "--json").stdout
        nowhere = "00000000-0000-7000-8000-000000000000"
        refused = hansa("run", "preview", str(plan), "--checkpoint", nowhere, expect=1).stderr
    assert wire.RunPreview.model_validate_json(as_json) == told
    assert wire.RunPreview.model_validate_json(based) == told
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert f"plan {told.plan_digest}" in lines
    assert "asked 2" in lines
    assert "of these by name oslo, turku" in lines
    assert "a round takes not known" in lines
    (excluded,) = told.excluded
    assert f"away {excluded.reason}" in lines
    assert f"warning: {told.warnings[0]}" in lines
    assert "checkpoint_id" in refused
    assert federation.get("/runs")["items"] == []


def test_the_schema_is_served_to_people_and_is_cached(federation: Federation) -> None:
    client, headers = federation.client, federation.owner.headers
    assert client.get("/v1/plan-schema").status_code == 401
    first = client.get("/v1/plan-schema", headers=headers)
    assert first.status_code == 200
    assert first.json()["properties"]["rounds"]["title"] == "Rounds"
    known = client.get(
        "/v1/plan-schema", headers=headers | {"If-None-Match": first.headers["etag"]}
    )
    assert (known.status_code, known.content) == (304, b"")
