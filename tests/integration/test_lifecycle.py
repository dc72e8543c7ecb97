"""The whole life of a run: paused, resumed, forked, stopped early, out of budget, cancelled."""

from datetime import timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient

from app.domain.clock import utc_now
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.states import RoundKind, RoundState, RunState, TaskState
from tests.factories import (
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_plan,
    a_run,
    sites_online,
    work_off,
)
from tests.tensors import a_delta, digest_of, encode, plain_fedavg


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def sites(federation: Federation) -> list[ActiveSite]:
    made = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    return made


def hold_round(federation: Federation, sites: list[ActiveSite], **changes: Any) -> None:
    """Let every site answer its task, the same whenever the round is held."""
    work_off(federation)
    for position, site in enumerate(sites):
        task = site.claim()
        site.answer(task, a_delta(10 * task.round_number + position), **changes)
    work_off(federation)


def final_digest(federation: Federation, run: wire.Run) -> str:
    return federation.checkpoint(federation.run(run.id).latest_checkpoint_id).digest


def rounds_of(federation: Federation, run: wire.Run) -> list[tuple[int, int, str]]:
    """Return (number, retry, state) of the run's rounds, in order."""
    items = federation.get(f"/runs/{run.id}/rounds")["items"]
    return [(item["number"], item["retry"], item["state"]) for item in items]


def test_a_pause_lets_the_round_finish_and_a_resume_goes_on_from_it(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=2)
    work_off(federation)
    tasks = [site.claim() for site in sites]
    pausing = federation.post(f"/runs/{run.id}/pause", {}, expect=200)
    assert pausing["state"] == "running"
    assert pausing["pausing"]
    assert "paused by owner@nordic.example" in (federation.run(run.id).state_reason or "")
    for position, site in enumerate(sites):
        site.answer(tasks[position], a_delta(10 + position))
    work_off(federation)
    paused = federation.run(run.id)
    assert paused.state is RunState.PAUSED
    assert paused.rounds_completed == 1
    assert paused.active_seconds > 0
    assert [site.poll().status_code for site in sites] == [204, 204]
    assert federation.post(f"/runs/{run.id}/pause", {}, expect=200)["state"] == "paused"
    assert federation.post(f"/runs/{run.id}/resume", expect=200)["state"] == "queued"
    hold_round(federation, sites)
    assert federation.run(run.id).state is RunState.COMPLETED
    kinds = [
        event["kind"] for event in federation.get("/events", run_id=str(run.id), limit=200)["items"]
    ]
    assert [kind for kind in kinds if kind.startswith("run.")] == [
        "run.created",
        "run.queued",
        "run.started",
        "run.pausing",
        "run.paused",
        "run.queued",
        "run.resumed",
        "run.completed",
    ]


def test_a_burnt_round_is_held_again_and_ends_with_the_same_bytes(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    undisturbed = a_run(federation, name="undisturbed", rounds=2)
    for _ in range(2):
        hold_round(federation, sites)
    base = undisturbed.base_checkpoint_id
    run = wire.Run.model_validate(
        federation.post("/runs", {"plan": a_plan(rounds=2), "checkpoint_id": str(base)})
    )
    hold_round(federation, sites)
    work_off(federation)
    held = sites[0].claim()
    sites[1].answer(sites[1].claim(), a_delta(99))
    burnt = federation.post(f"/runs/{run.id}/pause", {"round": "burn"}, expect=200)
    assert burnt["state"] == "paused"
    told = sites[0].beat(held).json()
    assert told["stop"]
    assert "paused by owner@nordic.example" in told["reason"]
    assert sites[0].submit(held, encode(a_delta(1))).status_code == 409
    federation.post(f"/runs/{run.id}/resume", expect=200)
    hold_round(federation, sites)
    assert federation.run(run.id).state is RunState.COMPLETED
    assert rounds_of(federation, run) == [
        (1, 0, "completed"),
        (2, 0, "cancelled"),
        (2, 1, "completed"),
    ]
    assert final_digest(federation, run) == final_digest(federation, undisturbed)
    seen = [point["round_number"] for point in federation.get(f"/runs/{run.id}/metrics")["items"]]
    assert len(seen) == len(set(seen))  # reported once, whatever was burnt


def test_a_pause_can_be_taken_back_and_turned_into_a_burning_one(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation)
    work_off(federation)
    federation.post(f"/runs/{run.id}/pause", {}, expect=200)
    taken_back = federation.post(f"/runs/{run.id}/resume", expect=200)
    assert taken_back["state"] == "running"
    assert not taken_back["pausing"]
    federation.post(f"/runs/{run.id}/pause", {}, expect=200)
    burnt = federation.post(f"/runs/{run.id}/pause", {"round": "burn"}, expect=200)
    assert burnt["state"] == "paused"
    cancelled = federation.post(f"/runs/{run.id}/cancel", expect=200)
    assert cancelled["state"] == "cancelled"
    for move in ("pause", "resume", "start"):
        body: dict[str, str] | None = {} if move == "pause" else None
        answer = federation.post(f"/runs/{run.id}/{move}", body, expect=409)
        assert "cancelled run" in answer["detail"]


def test_drafts_are_started_not_resumed_and_paused_runs_resumed_not_started(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    draft = federation.post("/runs", {"plan": a_plan(), "start": False})
    assert "start it" in federation.post(f"/runs/{draft['id']}/resume", expect=409)["detail"]
    assert "draft run" in federation.post(f"/runs/{draft['id']}/pause", {}, expect=409)["detail"]
    run = a_run(federation, name="other")
    assert federation.post(f"/runs/{run.id}/pause", {}, expect=200)["state"] == "paused"
    assert "resume it" in federation.post(f"/runs/{run.id}/start", expect=409)["detail"]


def test_a_running_run_says_what_its_round_waits_for(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=3)
    assert run.state_reason == "waiting for a worker to look at it"
    work_off(federation)
    task = sites[0].claim()
    said = federation.run(run.id).state_reason or ""
    assert said.startswith(
        "round 1 of 3: 0 of 2 answers, waiting for bergen (has begun), oslo (last"
    )
    sites[0].beat(task)
    assert "bergen (training 50%)" in (federation.run(run.id).state_reason or "")


def test_a_fork_starts_from_any_round_with_a_changed_plan(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    parent = a_run(federation, rounds=2, training={"lr": 0.1, "epochs": 3})
    for _ in range(2):
        hold_round(federation, sites)
    made = federation.round(parent.id, 1).checkpoint_id
    body = {
        "name": "lower",
        "round_number": 1,
        "changes": {"rounds": 1, "training": {"lr": 0.01, "epochs": None}},
    }
    forked = wire.Run.model_validate(federation.post(f"/runs/{parent.id}/fork", body))
    assert forked.parent_run_id == parent.id
    assert forked.base_checkpoint_id == made
    assert forked.plan.training == {"lr": 0.01}
    assert forked.plan.rounds == 1
    assert forked.plan.cohort == parent.plan.cohort
    hold_round(federation, sites)
    assert federation.run(forked.id).state is RunState.COMPLETED
    base = federation.checkpoint(made)
    assert federation.round(forked.id, 1).base_checkpoint_id == base.id
    wrong = {"name": "x", "changes": {"rounds": -1, "cohort": {"choose": "some"}}}
    refused = federation.post(f"/runs/{parent.id}/fork", wrong, expect=422)
    paths = {error["path"] for error in refused["errors"]}
    assert paths == {"changes.rounds", "changes.cohort.choose"}
    missing = federation.post(
        f"/runs/{parent.id}/fork", {"name": "x", "round_number": 7}, expect=404
    )
    assert "round 7" in missing["detail"]


def test_training_stops_early_when_the_metric_stalls_and_is_evaluated_once_more(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(
        federation,
        rounds=50,
        evaluation={"every": 1, "final": True},
        early_stopping={"metric": "loss", "patience": 2},
    )
    for loss in (1.0, 0.5, 0.6, 0.55):
        hold_round(federation, sites, evaluation={"num_examples": 4, "metrics": {"loss": loss}})
    work_off(federation)
    last = [site.claim() for site in sites]
    assert {task.kind for task in last} == {RoundKind.EVALUATE}
    for site, task in zip(sites, last, strict=True):
        assert site.evaluate(task, {"loss": 0.7}, 4).status_code == 201
    work_off(federation)
    ended = federation.run(run.id)
    assert ended.state is RunState.COMPLETED
    assert ended.rounds_completed == 4
    assert ended.state_reason == (
        "stopped early, after 4 of 50 rounds: eval loss has not improved on the 0.5 of "
        "checkpoint 1 in 2 measurements"
    )


def test_a_spent_byte_budget_completes_the_run_with_what_it_has(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    size = federation.checkpoint(a_run(federation, name="other").base_checkpoint_id).size
    hold_round(federation, sites)
    run = a_run(federation, rounds=50, budget={"bytes": 7 * size})
    for _ in range(2):
        hold_round(federation, sites)
    ended = federation.run(run.id)
    assert ended.state is RunState.COMPLETED
    assert ended.bytes_moved == 8 * size  # two rounds, two sites, down and up
    assert f"the budget of {7 * size} bytes is spent" in (ended.state_reason or "")


def test_a_spent_time_budget_ends_the_open_round_and_completes_the_run(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=50, budget={"seconds": 20})
    hold_round(federation, sites)
    work_off(federation)
    opened = federation.round(run.id, 2)
    assert opened.deadline_at < utc_now() + timedelta(seconds=20)
    work_off(federation, now=utc_now() + timedelta(seconds=21))
    ended = federation.run(run.id)
    assert ended.state is RunState.COMPLETED
    assert ended.rounds_completed == 1
    assert "the time budget of 20 s is spent, after 1 of 50 rounds" in (ended.state_reason or "")
    assert federation.round(run.id, 2).state is RoundState.CANCELLED


def test_a_round_short_of_answers_is_held_again_as_often_as_the_plan_says(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, cohort={"min_sites": 2, "retries": 1})
    work_off(federation)
    tasks = [site.claim() for site in sites]
    sites[0].answer(tasks[0], a_delta(1))
    sites[1].fail(tasks[1], "the disk is full")
    work_off(federation)
    assert rounds_of(federation, run) == [(1, 0, "failed"), (1, 1, "collecting")]
    tasks = [site.claim() for site in sites]
    sites[1].fail(tasks[1], "the disk is full")
    work_off(federation)
    ended = federation.run(run.id)
    assert ended.state is RunState.FAILED
    assert "oslo: the disk is full" in (ended.state_reason or "")


def test_a_run_of_no_rounds_evaluates_any_checkpoint_at_every_site(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    trained = a_run(federation, rounds=2)
    for _ in range(2):
        hold_round(federation, sites)
    first = federation.round(trained.id, 1).checkpoint_id
    plan = a_plan(name="cross", rounds=0, evaluation={"final": True})
    made = federation.post("/runs", {"plan": plan, "checkpoint_id": str(first)})
    work_off(federation)
    digest = federation.checkpoint(first).digest
    for auc, site in zip((0.75, 0.25), sites, strict=True):
        task = site.claim()
        assert task.kind is RoundKind.EVALUATE
        assert task.checkpoint.digest == digest
        site.evaluate(task, {"auc": auc}, 10)
    work_off(federation)
    assert federation.get(f"/runs/{made['id']}")["state"] == "completed"
    points = federation.get(f"/runs/{made['id']}/metrics")["items"]
    values = {point["site_name"]: (point["round_number"], point["value"]) for point in points}
    assert values == {"bergen": (0, 0.75), "oslo": (0, 0.25), None: (0, 0.5)}


def test_an_evaluator_with_central_data_never_trains_and_is_no_part_of_k(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    [central] = sites_online(federation, "central")
    quiet = {"every": 1, "final": False, "at_sites": False, "evaluators": ["central"]}
    run = a_run(federation, evaluation=quiet)
    work_off(federation)
    tasks = [site.claim() for site in sites]
    asked = central.claim()
    assert asked.kind is RoundKind.EVALUATE
    assert [task.evaluate for task in tasks] == [False, False]
    assert central.upload(asked, encode(a_delta(1))).status_code == 422
    for site, task in zip(sites, tasks, strict=True):
        site.answer(task, a_delta(3))
    work_off(federation)
    waiting = federation.round(run.id, 1)
    assert waiting.state is RoundState.COLLECTING  # for the evaluator, until the deadline
    assert central.evaluate(asked, {"loss": 0.25}, 100).status_code == 201
    work_off(federation)
    assert federation.run(run.id).state is RunState.COMPLETED
    points = federation.get(f"/runs/{run.id}/metrics")["items"]
    assert {(p["site_name"], p["name"], p["value"]) for p in points if p["kind"] == "eval"} == {
        ("central", "loss", 0.25),
        (None, "loss", 0.25),
    }


def test_the_first_answers_close_an_over_selected_round(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    sites += sites_online(federation, "turku", "umea")
    cohort = {"min_sites": 2, "choose": "random", "size": 2, "over_select": 1}
    run = a_run(federation, cohort=cohort, seed=4)
    work_off(federation)
    detail = federation.round(run.id, 1)
    asked = {task.site_name for task in detail.tasks}
    assert len(asked) == 3
    [left_out] = detail.excluded
    assert left_out.site not in asked
    assert left_out.reason == "not drawn: 3 of 4 eligible sites were asked"
    working = [site for site in sites if site.name in asked]
    tasks = [site.claim() for site in working]
    base = working[0].download(tasks[0])
    for position in (0, 1):
        working[position].answer(tasks[position], a_delta(position))
    work_off(federation)
    assert federation.run(run.id).state is RunState.COMPLETED
    expected = plain_fedavg(base, [(a_delta(0), 10), (a_delta(1), 10)])
    assert final_digest(federation, run) == digest_of(encode(expected))
    late = working[2].submit(tasks[2], encode(a_delta(9)))
    assert late.status_code == 409
    assert "closed without this site" in late.json()["detail"]
    states = {task.site_name: task.state for task in federation.round(run.id, 1).tasks}
    assert states[working[2].name] is TaskState.LATE


def test_a_run_waits_for_its_pinned_sites(federation: Federation, sites: list[ActiveSite]) -> None:
    run = a_run(federation, cohort={"min_sites": 1, "pinned": ["oslo", "turku"]})
    work_off(federation)
    assert federation.run(run.id).state_reason == (
        "2 of 1 sites online: waiting for the pinned turku"
    )
    sites_online(federation, "turku")
    work_off(federation)
    assert len(federation.round(run.id, 1).tasks) == 3


def test_a_newcomer_joins_a_running_run_from_its_latest_checkpoint(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=2)
    hold_round(federation, sites)
    work_off(federation)
    assert {task.site_name for task in federation.round(run.id, 2).tasks} == {"bergen", "oslo"}
    federation.post(f"/runs/{run.id}/pause", {"round": "burn"}, expect=200)
    [newcomer] = sites_online(federation, "turku")
    federation.post(f"/runs/{run.id}/resume", expect=200)
    work_off(federation)
    task = newcomer.claim()
    latest = federation.checkpoint(federation.run(run.id).latest_checkpoint_id)
    assert task.checkpoint.digest == latest.digest
    assert task.round_number == 2


def test_a_deadline_that_the_plan_leaves_open_follows_the_rounds_before(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=2, deadlines={})
    work_off(federation)
    first = federation.round(run.id, 1)
    assert first.deadline_at - first.created_at > timedelta(hours=1)  # nothing is known yet
    hold_round(federation, sites)
    second = federation.round(run.id, 2)
    assert second.deadline_at - second.created_at == timedelta(minutes=15)  # the least


def test_a_site_that_no_round_makes_use_of_raises_an_alert_until_one_does(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    cohort = {"min_sites": 1, "choose": "random", "size": 1, "over_select": 1}
    run = a_run(federation, rounds=20, cohort=cohort)
    fast, slow = sites
    for _ in range(10):
        work_off(federation)
        slow.claim()
        fast.answer(fast.claim(), a_delta(1))
        work_off(federation)
    [alert] = federation.get("/alerts", open=True)["items"]
    assert alert["kind"] == "site-excluded"
    assert alert["message"] == "none of the last 10 rounds of run first made use of oslo"
    assert alert["site_id"] == str(slow.id)
    for _ in range(10):
        work_off(federation)
        fast.claim()
        slow.answer(slow.claim(), a_delta(2))
        work_off(federation)
    open_now = federation.get("/alerts", open=True)["items"]
    assert [item["message"] for item in open_now] == [
        "none of the last 10 rounds of run first made use of bergen"
    ]
    assert federation.run(run.id).state is RunState.COMPLETED


def test_a_burnt_evaluation_is_held_again_too(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    plan = a_plan(name="cross", rounds=0, evaluation={"final": True})
    run = wire.Run.model_validate(federation.post("/runs", {"plan": plan}))
    work_off(federation)
    federation.post(f"/runs/{run.id}/pause", {"round": "burn"}, expect=200)
    federation.post(f"/runs/{run.id}/resume", expect=200)
    work_off(federation)
    for site in sites:
        assert site.evaluate(site.claim(), {"auc": 0.5}, 4).status_code == 201
    work_off(federation)
    assert federation.run(run.id).state is RunState.COMPLETED
    assert rounds_of(federation, run) == [(1, 0, "cancelled"), (1, 1, "completed")]
