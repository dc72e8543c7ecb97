"""Runs whose strategy keeps state: on the server with every checkpoint, at sites between rounds."""

from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
import pytest
from fastapi.testclient import TestClient

from app.db import retention as rows
from app.domain.clock import utc_now
from app.domain.retention import expendable
from app.services.transactions import Transactions
from app.settings import Settings
from hansa.verification import Check, verify_bundle
from hansa_core import wire
from hansa_core.states import RoundState, RunState, TaskState
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
from tests.integration.test_strategies import bodies, bundled, forge
from tests.jobs import Sent, Server, a_server
from tests.tensors import BASE, Tensors, a_delta, decode, digest_of, encode

NAMES = ("bergen", "oslo", "turku")
ADAM = {"name": "fedadam", "lr": 0.1}
SCAFFOLD = {"name": "scaffold"}


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def sites(federation: Federation) -> list[ActiveSite]:
    a_model(federation)
    return sites_online(federation, *NAMES)


def started(federation: Federation, section: Mapping[str, Any], rounds: int, **plan: Any) -> UUID:
    cohort = {"min_sites": len(NAMES)}
    run = a_run(federation, strategy=section, rounds=rounds, cohort=cohort, **plan)
    work_off(federation)
    return run.id


def sent_by(index: int, number: int, *, control: bool) -> Sent:
    """What a site sends in a round."""
    delta = a_delta(100 * number + index)
    part = {name: it for name, it in a_delta(7 * number + index).items() if it.dtype.kind == "f"}
    return Sent(delta, 5 + index, parts={"control": part} if control else None)


def play(federation: Federation, sites: list[ActiveSite], number: int) -> list[wire.Task]:
    """Hold one round; return the tasks as the sites were given them."""
    tasks = [site.claim() for site in sites]
    for index, (site, task) in enumerate(zip(sites, tasks, strict=True)):
        sent = sent_by(index, number, control=bool(task.local_work.parts))
        parts = {name: dict(part) for name, part in (sent.parts or {}).items()}
        site.answer(task, sent.delta, parts, num_examples=sent.num_examples)
    work_off(federation)
    return tasks


def expected(section: Mapping[str, Any], numbers: list[int]) -> Server:
    """What the kernel makes of these rounds."""
    server = a_server(dict(BASE), strategy=section, cohort={"min_sites": len(NAMES)})
    for number in numbers:
        control = section["name"] == "scaffold"
        server = server.round(
            [sent_by(index, number, control=control) for index in range(len(NAMES))],
            population=len(NAMES),
        )
    return server


def newest(federation: Federation, run_id: UUID) -> str:
    return federation.checkpoint(federation.run(run_id).latest_checkpoint_id).digest


@pytest.mark.parametrize("section", [ADAM, SCAFFOLD], ids=lambda it: it["name"])
def test_state_goes_with_every_checkpoint_and_is_verified(
    section: dict[str, Any],
    federation: Federation,
    sites: list[ActiveSite],
    settings: Settings,
    tmp_path: Path,
) -> None:
    run_id = started(federation, section, rounds=3)
    for number in (1, 2, 3):
        play(federation, sites, number)
    assert federation.run(run_id).state is RunState.COMPLETED
    wanted = expected(section, [1, 2, 3])
    assert newest(federation, run_id) == digest_of(wanted.checkpoint)
    shown = federation.checkpoint(federation.run(run_id).latest_checkpoint_id).slots
    assert {slot.name: slot.digest for slot in shown} == {
        name: digest_of(file) for name, file in wanted.slots.items()
    }
    listed = federation.get("/models/tumor/checkpoints")["items"]
    assert [len(item["slots"]) for item in listed] == [len(shown)] * 3 + [0]

    bundle, trust = bundled(federation, settings, run_id, tmp_path / "bundle")
    told = [body["round"] for body in bodies(bundle) if body["round"]]
    slots = {name: digest_of(file) for name, file in wanted.slots.items()}
    assert {name: it["digest"] for name, it in told[-1]["aggregate"]["slots"].items()} == slots
    assert told[1]["base_slots"] == told[0]["aggregate"]["slots"]
    assert [it["population"] for it in told] == [len(NAMES)] * 3
    report = verify_bundle(bundle, trust)
    assert (report.wrong, report.unchecked) == ((), ())
    assert report.holds[Check.AGGREGATE] == 3


def test_a_slot_that_the_updates_do_not_give_is_found(
    federation: Federation, sites: list[ActiveSite], settings: Settings, tmp_path: Path
) -> None:
    run_id = started(federation, ADAM, rounds=2)
    for number in (1, 2):
        play(federation, sites, number)
    bundle, trust = bundled(federation, settings, run_id, tmp_path / "bundle")

    def swap(aggregate: dict[str, Any]) -> None:
        slots = aggregate["slots"]
        slots["momentum"], slots["variance"] = slots["variance"], slots["momentum"]

    forge(bundle, swap)
    wrong = [(found.check, found.message) for found in verify_bundle(bundle, trust).wrong]
    assert [check for check, _ in wrong] == [Check.AGGREGATE, Check.LINEAGE]
    assert wrong[0][1].startswith("the updates give the momentum ")
    assert "other slots of the server's than were left to it" in wrong[1][1]


def test_a_paused_run_goes_on_with_its_state(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run_id = started(federation, ADAM, rounds=2)
    play(federation, sites, 1)
    federation.post(f"/runs/{run_id}/pause", {"round": "burn"}, expect=200)
    work_off(federation)
    federation.post(f"/runs/{run_id}/resume", expect=200)
    work_off(federation)
    play(federation, sites, 2)
    assert newest(federation, run_id) == digest_of(expected(ADAM, [1, 2]).checkpoint)


def forked(federation: Federation, run_id: UUID, number: int, **changes: Any) -> UUID:
    body = {"name": "forked", "round_number": number, "changes": changes}
    made = federation.post(f"/runs/{run_id}/fork", body)
    work_off(federation)
    return UUID(made["id"])


def test_a_fork_goes_on_with_the_state_of_its_checkpoint(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run_id = started(federation, ADAM, rounds=3)
    for number in (1, 2, 3):
        play(federation, sites, number)
    again = forked(federation, run_id, 1, rounds=2)
    for number in (2, 3):
        play(federation, sites, number)
    assert newest(federation, again) == newest(federation, run_id)


def test_a_fork_with_another_strategy_begins_without_state(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run_id = started(federation, ADAM, rounds=1)
    play(federation, sites, 1)
    momentum = {"name": "fedavgm"}
    again = forked(federation, run_id, 1, strategy={**momentum, "lr": 1.0})
    play(federation, sites, 2)
    base = expected(ADAM, [1])
    plain = Server(a_server(dict(BASE), strategy=momentum).plan, base.checkpoint, {})
    wanted = plain.round([sent_by(index, 2, control=False) for index in range(len(NAMES))])
    assert newest(federation, again) == digest_of(wanted.checkpoint)


def test_sites_are_sent_the_slot_that_their_work_needs(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    started(federation, SCAFFOLD, rounds=2)
    assert {task.slots == [] for task in play(federation, sites, 1)} == {True}
    task = sites[0].claim()
    assert [slot.name for slot in task.slots] == ["control"]
    path = f"/v1/tasks/{task.id}/slots"
    found = federation.client.get(f"{path}/control", headers=sites[0].identity.headers)
    assert digest_of(found.content) == task.slots[0].digest
    assert found.content == expected(SCAFFOLD, [1]).slots["control"]
    for name, site in (("momentum", sites[0]), ("control", sites[1])):
        refused = federation.client.get(f"{path}/{name}", headers=site.identity.headers)
        assert refused.status_code == 404


def test_a_site_goes_on_from_its_last_update_that_counted(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run_id = started(federation, SCAFFOLD, rounds=3)
    first = play(federation, sites, 1)
    assert {task.follows for task in first} == {None}
    burnt = sites[0].claim()
    assert burnt.follows == first[0].id
    sent = sent_by(0, 2, control=True)
    parts = {name: dict(part) for name, part in (sent.parts or {}).items()}
    sites[0].answer(burnt, sent.delta, parts)
    federation.post(f"/runs/{run_id}/pause", {"round": "burn"}, expect=200)
    work_off(federation)
    federation.post(f"/runs/{run_id}/resume", expect=200)
    work_off(federation)
    second = play(federation, sites, 2)
    assert [task.follows for task in second] == [task.id for task in first]
    play(federation, sites, 3)
    forked(federation, run_id, 1, rounds=2)
    assert [site.claim().follows for site in sites] == [task.id for task in first]


def test_plain_runs_follow_nothing(federation: Federation, sites: list[ActiveSite]) -> None:
    started(federation, {"name": "fedavg"}, rounds=2)
    play(federation, sites, 1)
    assert {task.follows for task in play(federation, sites, 2)} == {None}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"parts": {}}, "its parts are none, wanted control"),
        ({"scalars": {"base_loss": 1.0}}, "its scalars are base_loss, wanted none"),
        ({"groups": ["head"]}, "its groups are head, wanted none"),
    ],
)
def test_an_update_with_more_or_less_than_the_strategy_wants_is_refused(
    changes: dict[str, Any], message: str, federation: Federation, sites: list[ActiveSite]
) -> None:
    started(federation, SCAFFOLD, rounds=1)
    task = sites[0].claim()
    delta = a_delta(1)
    part = encode({name: it for name, it in delta.items() if it.dtype.kind == "f"})
    assert sites[0].upload(task, encode(delta)).status_code == 201
    assert sites[0].upload(task, part, part="control").status_code == 201
    told = wire.UpdatePart(digest=digest_of(part), size=len(part))
    fields: dict[str, Any] = {"parts": {"control": told}, **changes}
    refused = sites[0].submit(task, encode(delta), **fields)
    assert refused.status_code == 422
    assert message in refused.json()["detail"]


def test_a_part_has_to_be_laid_out_like_the_floats(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    started(federation, SCAFFOLD, rounds=1)
    task = sites[0].claim()
    wrong = sites[0].upload(task, encode(a_delta(1)), part="control")
    assert (wrong.status_code, "'steps' is unexpected" in wrong.json()["detail"]) == (422, True)
    unknown = sites[0].upload(task, encode(a_delta(1)), part="momentum")
    assert (unknown.status_code, "no part 'momentum'" in unknown.json()["detail"]) == (422, True)


def test_a_part_cannot_stand_for_the_delta(federation: Federation, sites: list[ActiveSite]) -> None:
    started(federation, SCAFFOLD, rounds=1)
    task = sites[0].claim()
    part = encode({name: it for name, it in a_delta(1).items() if it.dtype.kind == "f"})
    assert sites[0].upload(task, part, part="control").status_code == 201
    told = wire.UpdatePart(digest=digest_of(part), size=len(part))
    refused = sites[0].submit(task, part, parts={"control": told})
    assert (refused.status_code, "'steps' is missing" in refused.json()["detail"]) == (422, True)


GROUPS: dict[str, Any] = {
    "frozen": ["steps"],
    "groups": [{"name": "bias", "tensors": ["layer.bias"], "labels": {"kind": "b"}}],
}


def test_a_group_is_trained_by_the_sites_that_carry_its_labels(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    for site, kind in zip(sites, ("b", "b", "c"), strict=True):
        answer = federation.client.put(
            f"/v1/federations/{federation.slug}/sites/{site.id}/labels",
            json={"labels": {"kind": kind}},
            headers=federation.owner.headers,
        )
        assert answer.status_code == 200, answer.text
    run_id = started(federation, {"name": "fedavg"}, rounds=1, tensors=GROUPS)
    held = {"b": ["layer.weight", "layer.bias"], "c": ["layer.weight"]}
    deltas: list[Tensors] = []
    for index, (site, kind) in enumerate(zip(sites, ("b", "b", "c"), strict=True)):
        task = site.claim()
        assert task.groups == (["bias"] if kind == "b" else [])
        delta = {name: a_delta(index)[name] for name in held[kind]}
        if kind == "c":
            more = site.upload(task, encode({**delta, "layer.bias": a_delta(0)["layer.bias"]}))
            assert "'layer.bias' is unexpected" in more.json()["detail"]
        site.answer(task, delta, num_examples=1, groups=task.groups)
        deltas.append(delta)
    work_off(federation)
    file = federation.client.get(
        f"/v1/federations/{federation.slug}/artifacts/{newest(federation, run_id)}",
        headers=federation.owner.headers,
    ).content
    made = decode(file)
    for name, count in (("layer.weight", 3), ("layer.bias", 2)):
        mean = sum(delta[name].astype(float) for delta in deltas[:count]) / count
        np.testing.assert_allclose(made[name], BASE[name] + mean, rtol=1e-6)
    assert made["steps"] == BASE["steps"]


def test_tensors_that_the_model_does_not_have_are_refused_at_creation(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    del sites
    plan = a_plan(tensors={"frozen": ["tail.*"]})
    refused = federation.post("/runs", {"plan": plan}, expect=422)
    assert refused["errors"][0]["path"] == "plan.tensors"
    assert "'tail.*' matches no tensor" in refused["errors"][0]["message"]


def test_a_site_whose_sdk_cannot_do_it_fails_the_task_with_the_reason(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    cohort = {"min_sites": 2}
    run = a_run(federation, strategy=SCAFFOLD, rounds=1, cohort=cohort)
    work_off(federation)
    assert sites[0].poll(features=[wire.Feature.CODECS]).status_code == 204
    work_off(federation)
    told = {task.site_name: task for task in federation.round(run.id, 1).tasks}
    assert told["bergen"].state is TaskState.FAILED
    assert "SDK 0.1.0 cannot do local-work" in (told["bergen"].state_reason or "")
    for index, site in enumerate(sites[1:]):
        sent = sent_by(index, 1, control=True)
        parts = {name: dict(part) for name, part in (sent.parts or {}).items()}
        site.answer(site.claim(), sent.delta, parts)
    work_off(federation)
    assert federation.round(run.id, 1).state is RoundState.COMPLETED


def test_state_and_parts_are_kept_as_long_as_what_they_belong_to(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    started(federation, SCAFFOLD, rounds=1)
    play(federation, sites, 1)
    later = utc_now() + timedelta(days=9)

    def going(policy: wire.Retention) -> int:
        with federation.transactions.begin("expendable") as tx:
            page = rows.candidates(
                tx.session, federation.id, before=later, after="", unreferenced=False, limit=99
            )
            facts = rows.facts(tx.session, federation.id, page)
            return len(expendable(facts, policy, now=later, grace=timedelta(0)))

    assert going(wire.Retention()) == 0
    assert going(wire.Retention(updates_days=0)) == 2 * len(NAMES)
