"""A checkpoint's card says what made it; a model's lineage says what comes from what."""

from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire
from hansa_core.cards import card_markdown
from hansa_core.states import RunState
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
from tests.identities import make_person
from tests.tensors import BASE, a_delta, digest_of, encode

EVALUATED = {"every": 1, "final": True}


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def sites(federation: Federation) -> list[ActiveSite]:
    return sites_online(federation, "bergen", "oslo")


@pytest.fixture
def base(federation: Federation) -> wire.Checkpoint:
    return a_model(federation)


def hold_rounds(federation: Federation, sites: list[ActiveSite], count: int) -> None:
    """Answer so many training rounds of the run that is going on, then its evaluation if any."""
    for number in range(1, count + 1):
        work_off(federation)
        for place, site in enumerate(sites):
            evaluation = {"num_examples": 4, "metrics": {"loss": 1.0 / number, "accuracy": 0.5}}
            site.answer(
                site.claim(),
                a_delta(10 * number + place),
                num_examples=10 + place,
                metrics={"loss": 2.0 + place},
                evaluation=evaluation,
            )
    work_off(federation)
    for site in sites:
        if site.poll().status_code == 200:
            site.evaluate(site.claim(), {"loss": 0.25, "accuracy": 0.75}, 4)
    work_off(federation)


def card_of(federation: Federation, checkpoint_id: UUID) -> wire.ModelCard:
    return wire.ModelCard.model_validate(federation.get(f"/checkpoints/{checkpoint_id}/card"))


def lineage_of(federation: Federation, model: str = "tumor") -> list[wire.LineageRun]:
    told = wire.Lineage.model_validate(federation.get(f"/models/{model}/lineage"))
    assert not told.more
    return told.nodes


def fork(federation: Federation, run_id: UUID, **body: Any) -> wire.Run:
    return wire.Run.model_validate(federation.post(f"/runs/{run_id}/fork", body))


def test_the_card_of_a_trained_checkpoint_says_how_it_was_made(
    federation: Federation, sites: list[ActiveSite], base: wire.Checkpoint
) -> None:
    run = a_run(federation, rounds=2, evaluation=EVALUATED)
    hold_rounds(federation, sites, 2)
    ended = federation.run(run.id)
    assert ended.state is RunState.COMPLETED
    card = card_of(federation, ended.latest_checkpoint_id)
    assert (card.federation, card.model, card.made_by) == ("nordic", "tumor", "first")
    assert (card.run_id, card.round_number) == (run.id, 2)
    assert card.plan == ended.plan
    assert (card.sites, card.examples, card.secure) == (2, 21, False)
    assert card.tensors == len(BASE)
    assert card.parameters == sum(array.size for array in BASE.values())
    assert card.checkpoint == federation.checkpoint(ended.latest_checkpoint_id)
    seen = {(it.kind, it.name): (it.value, it.num_examples) for it in card.metrics}
    assert seen[("eval", "loss")] == (0.25, 8)
    assert seen[("train", "loss")] == (pytest.approx((2.0 * 10 + 3.0 * 11) / 21), 21)
    assert {it.round_number for it in card.metrics} == {2}
    by_round = {
        it["round_number"]: it["digest"]
        for it in federation.get(f"/runs/{run.id}/receipts")["items"]
    }
    assert card.receipt == by_round[2]
    first, uploaded = card.lineage
    assert (first.run_name, first.round_number) == ("first", 1)
    assert (uploaded.run_id, uploaded.checkpoint_id, uploaded.digest) == (
        None,
        base.id,
        base.digest,
    )
    assert not card.lineage_more


def test_an_uploaded_checkpoint_has_a_card_too(
    federation: Federation, sites: list[ActiveSite], base: wire.Checkpoint
) -> None:
    bare = card_of(federation, base.id)
    assert (bare.made_by, bare.run_id, bare.plan, bare.receipt) == (None, None, None, None)
    assert (bare.sites, bare.examples, bare.metrics, bare.lineage) == (0, None, [], [])
    a_run(federation, evaluation=EVALUATED)
    hold_rounds(federation, sites, 1)
    seen = {(it.kind, it.name): it.value for it in card_of(federation, base.id).metrics}
    assert seen == {("eval", "accuracy"): 0.5, ("eval", "loss"): 1.0}  # before anybody trained it


def test_the_card_is_to_be_had_as_markdown(
    federation: Federation, sites: list[ActiveSite], base: wire.Checkpoint
) -> None:
    run = a_run(federation)
    hold_rounds(federation, sites, 1)
    latest = federation.run(run.id).latest_checkpoint_id
    path = f"/v1/federations/nordic/checkpoints/{latest}/card"
    answer = federation.client.get(
        path, params={"format": "markdown"}, headers=federation.owner.headers
    )
    assert answer.headers["Content-Type"] == "text/markdown; charset=utf-8"
    assert 'filename="tumor-round-1.md"' in answer.headers["Content-Disposition"]
    assert answer.text == card_markdown(card_of(federation, latest))
    assert base.digest in answer.text
    wrong = federation.client.get(path, params={"format": "pdf"}, headers=federation.owner.headers)
    assert wrong.status_code == 422


def test_a_long_lineage_is_cut_and_says_so(federation: Federation, base: wire.Checkpoint) -> None:
    digest = digest_of(encode(BASE))
    newest = base.id
    for _ in range(101):
        body = {"digest": digest, "parent_id": str(newest)}
        newest = UUID(federation.post("/models/tumor/checkpoints", body)["id"])
    card = card_of(federation, newest)
    assert (len(card.lineage), card.lineage_more) == (100, True)
    steps = [it.checkpoint_id for it in card.lineage]
    assert steps == sorted(steps, reverse=True)  # nearest first
    (nearest, second) = (card_of(federation, steps[0]), card_of(federation, steps[1]))
    assert (len(nearest.lineage), nearest.lineage_more) == (100, False)
    assert second.lineage == nearest.lineage[1:]


def test_the_lineage_of_a_model_is_its_runs_and_where_they_come_from(
    federation: Federation, sites: list[ActiveSite], base: wire.Checkpoint
) -> None:
    first = a_run(federation, rounds=2, evaluation=EVALUATED)
    hold_rounds(federation, sites, 2)
    forked = fork(federation, first.id, name="second", round_number=1, changes={"rounds": 1})
    hold_rounds(federation, sites, 1)
    draft = federation.post("/runs", {"plan": a_plan(name="draft"), "start": False})
    a_model(federation, name="other")
    uploaded, one, two, waiting = lineage_of(federation)
    assert (uploaded.run_id, uploaded.latest_checkpoint_id, uploaded.checkpoints) == (
        None,
        base.id,
        1,
    )
    assert uploaded.from_checkpoint_id is None
    assert (one.run_id, one.run_name, one.state) == (first.id, "first", RunState.COMPLETED)
    assert (one.from_checkpoint_id, one.from_run_id, one.from_round) == (base.id, None, None)
    assert (one.first, one.last, one.checkpoints) == (1, 2, 2)
    assert one.latest_checkpoint_id == federation.run(first.id).latest_checkpoint_id
    assert one.metric is not None
    assert (one.metric.name, one.metric.value, one.metric.round_number) == ("loss", 0.25, 2)
    assert (two.run_id, two.from_run_id, two.from_round) == (forked.id, first.id, 1)
    assert (two.first, two.last, two.checkpoints) == (1, 1, 1)
    assert (waiting.run_id, waiting.state) == (UUID(draft["id"]), RunState.DRAFT)
    assert (waiting.first, waiting.last, waiting.checkpoints) == (0, 0, 0)
    assert waiting.latest_checkpoint_id == waiting.from_checkpoint_id
    assert waiting.metric is None
    assert [node.run_id for node in lineage_of(federation, "other")] == [None]


def test_what_is_not_there_or_somebody_elses_is_not_found(
    federation: Federation, base: wire.Checkpoint, client: TestClient, transactions: Transactions
) -> None:
    federation.get("/models/nothing/lineage", expect=404)
    federation.get(f"/checkpoints/{federation.id}/card", expect=404)
    stranger = make_person(transactions, "stranger@hub.example")
    for path in (f"/checkpoints/{base.id}/card", "/models/tumor/lineage"):
        answer = client.get(f"/v1/federations/nordic{path}", headers=stranger.headers)
        assert answer.status_code == 404
