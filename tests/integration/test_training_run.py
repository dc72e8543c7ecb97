"""A whole run over REST: what comes out is the mean, and says where it came from."""

from collections.abc import Sequence
from uuid import UUID

import pytest
from fastapi.testclient import TestClient

from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import signing, wire
from hansa_core.states import RoundKind, RoundState, RunState, TaskState
from tests.factories import (
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_run,
    sites_online,
    work_off,
)
from tests.identities import events_of
from tests.tensors import BASE, Tensors, a_delta, decode, digest_of, encode, plain_fedavg

NAMES = ("bergen", "oslo", "turku")
WEIGHTS = {"bergen": 10, "oslo": 25, "turku": 40}
ROUNDS = 3


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


def trained(site: str, round_number: int, base: Tensors) -> Tensors:
    """Return a delta that depends on the model it was trained on."""
    delta = a_delta(100 * round_number + NAMES.index(site))
    pulled = {
        name: (array - base[name] / 10).astype(array.dtype)
        for name, array in delta.items()
        if array.dtype.kind == "f"
    }
    return delta | pulled


def play_round(sites: Sequence[ActiveSite]) -> None:
    """Let the sites answer in the given order."""
    for site in sites:
        task = site.claim()
        weight = WEIGHTS[site.name]
        loss = {"loss": weight / 100 + task.round_number}
        evaluation = wire.Evaluation(num_examples=2 * weight, metrics=loss)
        if task.kind is RoundKind.EVALUATE:
            assert site.evaluate(task, loss, 2 * weight).status_code == 201
        else:
            delta = trained(site.name, task.round_number, site.download(task))
            site.answer(
                task,
                delta,
                num_examples=weight,
                metrics={"accuracy": weight / 100},
                evaluation=evaluation if task.evaluate else None,
            )


def play(federation: Federation, order: Sequence[int]) -> UUID:
    """Run to the end; the sites answer in `order`."""
    sites = sites_online(federation, *NAMES)
    a_model(federation)
    run = a_run(
        federation,
        rounds=ROUNDS,
        cohort={"min_sites": 3},
        evaluation={"every": 1, "final": True},
    )
    for _ in range(ROUNDS + 1):
        work_off(federation)
        play_round([sites[index] for index in order])
    work_off(federation)
    return run.id


def expected_models() -> list[Tensors]:
    """Return the base and every round's model, by a plain implementation."""
    models = [dict(BASE)]
    for number in range(1, ROUNDS + 1):
        base = models[-1]
        updates = [(trained(name, number, base), WEIGHTS[name]) for name in NAMES]
        models.append(plain_fedavg(base, updates))
    return models


# Each order runs in a database of its own, with other ids, and must give the same bytes.
@pytest.mark.parametrize("order", [(0, 1, 2), (2, 0, 1)])
def test_the_final_checkpoint_is_plain_fedavg_in_whatever_order_the_sites_answer(
    federation: Federation, order: tuple[int, ...]
) -> None:
    run = federation.run(play(federation, order))
    assert (run.state, run.state_reason, run.rounds_completed) == (RunState.COMPLETED, None, ROUNDS)
    final = federation.checkpoint(run.latest_checkpoint_id)
    assert final.digest == digest_of(encode(expected_models()[-1]))
    content = federation.client.get(
        f"/v1/federations/{federation.slug}/checkpoints/{final.id}/content",
        headers=federation.owner.headers,
    )
    assert digest_of(content.content) == final.digest
    assert decode(content.content)["steps"] > BASE["steps"]


def test_a_finished_run_can_be_read_back(federation: Federation) -> None:
    run_id = play(federation, (0, 1, 2))
    check_lineage(federation, run_id)
    check_metrics(federation, run_id)
    check_updates(federation, run_id)
    check_events(federation, run_id)


def check_lineage(federation: Federation, run_id: UUID) -> None:
    """Each checkpoint has the one before as its parent, and its round's number."""
    run = federation.run(run_id)
    digests = [digest_of(encode(model)) for model in expected_models()]
    current = federation.checkpoint(run.latest_checkpoint_id)
    for number in range(ROUNDS, 0, -1):
        assert (current.round_number, current.run_id) == (number, run_id)
        assert current.digest == digests[number]
        current = federation.checkpoint(current.parent_id)
    assert (current.id, current.parent_id) == (run.base_checkpoint_id, None)
    assert (current.digest, current.round_number) == (digests[0], None)
    page = wire.Page[wire.Round].model_validate(federation.get(f"/runs/{run_id}/rounds"))
    kinds = [(row.number, row.kind, row.state) for row in page.items]
    train = [(n, RoundKind.TRAIN, RoundState.COMPLETED) for n in range(1, ROUNDS + 1)]
    assert kinds == [*train, (ROUNDS + 1, RoundKind.EVALUATE, RoundState.COMPLETED)]
    assert page.items[-1].checkpoint_id is None
    assert page.items[-1].base_checkpoint_id == run.latest_checkpoint_id
    shown = federation.round(run_id, 1).tasks
    assert [task.site_name for task in shown] == list(NAMES)
    assert {task.state for task in shown} == {TaskState.DONE}
    assert [task.num_examples for task in shown] == list(WEIGHTS.values())


def check_metrics(federation: Federation, run_id: UUID) -> None:
    """Means are weighted; the evaluation of checkpoint n has the number n, the base's is 0."""
    page = federation.get(f"/runs/{run_id}/metrics", limit=200)
    points = wire.Page[wire.MetricPoint].model_validate(page).items
    means = {(p.kind, p.round_number): p for p in points if p.site_id is None}
    assert set(means) == {("eval", n) for n in range(ROUNDS + 1)} | {
        ("train", n) for n in range(1, ROUNDS + 1)
    }
    total = sum(WEIGHTS.values())
    weighted = sum(weight * weight / 100 for weight in WEIGHTS.values()) / total
    for (kind, number), point in means.items():
        reported = [p for p in points if (p.kind, p.round_number) == (kind, number) and p.site_id]
        assert {p.site_name for p in reported} == set(NAMES)
        if kind == "train":
            assert point.value == pytest.approx(weighted)
            assert point.num_examples == total
        else:  # the sites report it in the round after: see play_round
            assert point.value == pytest.approx(weighted + number + 1)
            assert point.num_examples == 2 * total
    assert len(points) == len(means) * (1 + len(NAMES))


def check_updates(federation: Federation, run_id: UUID) -> None:
    """Every update carries what verifies its signature offline."""
    page = federation.get(f"/runs/{run_id}/updates", round=2)
    updates = wire.Page[wire.Update].model_validate(page).items
    assert [update.num_examples for update in updates] == list(WEIGHTS.values())
    base = expected_models()[1]
    for update in updates:
        key = signing.decode_base64(update.public_key)
        payload = update.manifest.encode()
        signature = signing.decode_base64(update.signature)
        signing.verify(key, signing.Purpose.UPDATE, payload, signature)
        manifest = wire.UpdateManifest.model_validate_json(update.manifest)
        assert manifest.digest == update.digest
        assert update.digest == digest_of(encode(trained(update.site_name, 2, base)))
    everything = federation.get(f"/runs/{run_id}/updates", limit=4)
    assert len(everything["items"]) == 4
    rest = federation.get(f"/runs/{run_id}/updates", cursor=everything["next_cursor"])
    assert len(rest["items"]) == 3 * ROUNDS - 4
    assert rest["next_cursor"] is None


def check_events(federation: Federation, run_id: UUID) -> None:
    """The events tell the run from its creation to its end, in order."""
    kinds = [
        kind
        for kind, _ in events_of(federation.transactions, federation.id)
        if kind.startswith(("run.", "round."))
    ]
    one_round = ["round.opened", "round.aggregating", "round.completed"]
    assert kinds == [
        *("run.created", "run.queued", "run.started"),
        *(one_round * ROUNDS),
        *("round.opened", "round.completed", "run.completed"),
    ]
    told = federation.get("/events", run_id=run_id, limit=500)["items"]
    assert [event["id"] for event in told] == sorted(event["id"] for event in told)
    assert {event["run_id"] for event in told} == {str(run_id)}


def test_a_task_says_all_that_a_trainer_needs(federation: Federation) -> None:
    sites = sites_online(federation, "bergen", "oslo")
    base = a_model(federation)
    training = {"epochs": 3, "lr": 0.1, "layers": [1, 2]}
    run = a_run(federation, rounds=2, seed=42, training=training)
    work_off(federation)
    task = sites[1].claim()
    assert (task.round_number, task.rounds, task.seed, task.attempt) == (1, 2, 42, 1)
    assert (task.site_id, task.run_id, task.run_name) == (sites[1].id, run.id, "first")
    assert task.training == training
    assert task.checkpoint.digest == base.digest
    assert task.checkpoint.size == base.size
    assert not task.evaluate
    assert 0 < task.lease.heartbeat_seconds < 60


def test_only_sites_with_the_plans_labels_are_admitted(federation: Federation) -> None:
    bergen, oslo, turku = sites_online(federation, *NAMES)
    for site in (bergen, turku):
        answer = federation.client.put(
            f"/v1/federations/{federation.slug}/sites/{site.id}/labels",
            json={"labels": {"scanner": "mri"}},
            headers=federation.owner.headers,
        )
        assert answer.status_code == 200
    a_model(federation)
    run = a_run(federation, cohort={"min_sites": 2, "labels": {"scanner": "mri"}})
    work_off(federation)
    assert oslo.poll().status_code == 204
    shown = federation.round(run.id, 1).tasks
    assert [task.site_name for task in shown] == ["bergen", "turku"]


def test_every_wrong_field_of_a_run_is_named_at_once(federation: Federation) -> None:
    a_model(federation)
    plan = {"name": "x", "model": "lung", "rounds": 1}
    answer = federation.post("/runs", {"plan": plan}, expect=422)
    assert answer["errors"] == [
        {"path": "plan.model", "message": "this federation has no model named 'lung'"}
    ]
    plan = {"name": "X", "model": "tumor", "rounds": -1, "colour": "red"}
    answer = federation.post("/runs", {"plan": plan}, expect=422)
    assert {error["path"] for error in answer["errors"]} == {
        "plan.name",
        "plan.rounds",
        "plan.colour",
    }


def test_training_settings_that_cannot_be_stored_are_refused(federation: Federation) -> None:
    a_model(federation)
    deep: object = 0
    for _ in range(40):
        deep = [deep]
    for value in (2**70, deep, "a\0b"):
        plan = {"name": "x", "model": "tumor", "rounds": 1, "training": {"value": value}}
        assert federation.post("/runs", {"plan": plan}, expect=422)["slug"] == "invalid-request"
