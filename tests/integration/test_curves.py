"""Curves over REST: what is on record, thinned out, and only of the federation's own runs."""

from typing import Any
from uuid import UUID, uuid4

import pytest
from fastapi.testclient import TestClient

from app.db import metrics as rows
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from tests.factories import Federation, a_federation, a_model, a_run, sites_online, work_off
from tests.tensors import a_delta

NAMES = ("bergen", "oslo")
EVALUATED = {"every": 1, "final": False}


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


def curves(federation: Federation, *run_ids: UUID, **params: Any) -> list[wire.RunCurves]:
    found = federation.get("/curves", run=[str(it) for it in run_ids], **params)
    return wire.CurveSet.model_validate(found).runs


def record(federation: Federation, run_id: UUID, points: list[rows.NewMetric]) -> None:
    with federation.transactions.begin("record") as tx:
        assert {point.run_id for point in points} == {run_id}
        rows.put(tx.session, points)


def point(
    run_id: UUID, number: int, value: float, site_id: UUID | None = None, *, examples: int = 10
) -> rows.NewMetric:
    return rows.NewMetric(run_id, number, "train", "loss", site_id, value, examples)


def test_a_curve_is_what_the_run_measured(federation: Federation) -> None:
    sites = sites_online(federation, *NAMES)
    a_model(federation)
    run = a_run(federation, rounds=2, evaluation=EVALUATED)
    losses = {"bergen": 1.0, "oslo": 3.0}
    for number in (1, 2):
        work_off(federation)
        for site, weight in zip(sites, (10, 30), strict=True):
            task = site.claim()
            metrics = {"loss": losses[site.name] / number}
            report = wire.Evaluation(num_examples=weight, metrics={"accuracy": number / 10})
            site.answer(
                task, a_delta(number), num_examples=weight, metrics=metrics, evaluation=report
            )
    work_off(federation)
    (drawn,) = curves(federation, run.id, sites=True)
    assert (drawn.run_id, drawn.run_name) == (run.id, "first")
    accuracy, loss = drawn.curves
    assert (accuracy.kind, accuracy.name, accuracy.rounds) == ("eval", "accuracy", [0, 1])
    assert accuracy.aggregated == pytest.approx([0.1, 0.2])
    assert (loss.kind, loss.name, loss.rounds) == ("train", "loss", [1, 2])
    assert loss.aggregated == pytest.approx([2.5, 1.25])
    assert loss.examples == [40, 40]
    assert [(it.site_name, it.values) for it in loss.sites] == [
        ("bergen", [1.0, 0.5]),
        ("oslo", [3.0, 1.5]),
    ]
    (without,) = curves(federation, run.id, kind="train")
    assert without.curves == [loss.model_copy(update={"sites": []})]
    assert curves(federation, run.id, name="accuracy")[0].curves[0].name == "accuracy"
    assert curves(federation, run.id, name="none-such")[0].curves == []


def test_an_open_round_shows_the_mean_of_those_who_have_answered(federation: Federation) -> None:
    sites_online(federation, "lab")
    bergen, _oslo = sites_online(federation, *NAMES)
    a_model(federation)
    run = a_run(federation, evaluation={"every": 0, "final": False, "evaluators": ["lab"]})
    work_off(federation)
    bergen.answer(bergen.claim(), a_delta(1), num_examples=7, metrics={"loss": 0.5})
    (loss,) = curves(federation, run.id)[0].curves
    assert (loss.rounds, loss.aggregated, loss.examples) == ([1], [0.5], [7])


def test_a_long_run_is_thinned_out_to_the_same_rounds_for_all_sites(
    federation: Federation,
) -> None:
    bergen, oslo = sites_online(federation, *NAMES)
    a_model(federation)
    run = a_run(federation, rounds=500)
    means = {number: 1000.0 / number for number in range(1, 501)} | {250: 5000.0, 400: -1.0}
    points: list[rows.NewMetric] = []
    for number, mean in means.items():
        points.append(point(run.id, number, mean))
        points.append(point(run.id, number, mean + 1, bergen.id))
        if number != 1:
            points.append(point(run.id, number, mean - 1, oslo.id))
    record(federation, run.id, points)
    (loss,) = curves(federation, run.id, points=50, sites=True)[0].curves
    assert len(loss.rounds) == 50
    assert {1, 250, 400, 500} <= set(loss.rounds)
    assert loss.aggregated == [means[number] for number in loss.rounds]
    at_bergen, at_oslo = loss.sites
    assert at_bergen.values == [means[number] + 1 for number in loss.rounds]
    assert at_oslo.values == [None, *(means[number] - 1 for number in loss.rounds[1:])]
    (all_of_it,) = curves(federation, run.id, points=500)[0].curves
    assert all_of_it.rounds == list(means)


def test_runs_come_in_the_order_in_which_they_were_named(federation: Federation) -> None:
    a_model(federation)
    runs = [a_run(federation, name=name) for name in ("one", "two", "three")]
    for place, run in enumerate(runs):
        record(federation, run.id, [point(run.id, 1, float(place))])
    wanted = [runs[2].id, runs[0].id, runs[2].id, runs[1].id]
    found = curves(federation, *wanted)
    assert [it.run_name for it in found] == ["three", "one", "two"]
    assert [it.curves[0].aggregated for it in found] == [[2.0], [0.0], [1.0]]


def test_runs_of_others_are_not_there(
    federation: Federation, client: TestClient, transactions: Transactions, settings: Settings
) -> None:
    other = a_federation(client, transactions, settings, slug="baltic")
    a_model(federation)
    a_model(other)
    own, foreign = a_run(federation), a_run(other)
    for missing in (foreign.id, uuid4()):
        problem = federation.get("/curves", run=[str(own.id), str(missing)], expect=404)
        assert str(missing) in problem["detail"]
        assert str(own.id) not in problem["detail"]
    problem = federation.get("/curves", run=[str(own.id)] * 21, points=1, expect=422)
    assert {field["path"] for field in problem["errors"]} == {"query.run", "query.points"}
    federation.get("/curves", expect=422)


def test_of_more_sites_than_are_asked_for_those_with_the_most_numbers_are_told(
    federation: Federation,
) -> None:
    sites = sites_online(federation, "bergen", "oslo", "tromso")
    a_model(federation)
    run = a_run(federation)
    for number in (1, 2, 3):
        of_round = [
            point(run.id, number, float(index), site.id)
            for index, site in enumerate(sites)
            if index == 2 or number > 1  # tromso in all three rounds, the others in two
        ]
        record(federation, run.id, [*of_round, point(run.id, number, 0.5)])
    (drawn,) = curves(federation, run.id, sites=True, most_sites=1)
    assert [it.site_name for it in drawn.curves[0].sites] == ["tromso"]
    assert [it.site_name for it in drawn.reporting] == ["bergen", "oslo", "tromso"]
    (pinned,) = curves(federation, run.id, sites=True, most_sites=1, site=str(sites[1].id))
    assert [it.site_name for it in pinned.curves[0].sites] == ["oslo", "tromso"]
    (without,) = curves(federation, run.id)
    assert without.reporting == []
