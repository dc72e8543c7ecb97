"""What the hub signs when a round closes or a run ends, and what nobody may change after."""

import json
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from sqlalchemy.exc import DBAPIError

from app.domain.clock import utc_now
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import receipts, wire
from hansa_core.receipts import EndCause, Receipt, SealedReceipt
from hansa_core.signing import decode_base64
from hansa_core.states import Role, RoundKind, RoundState, RunState, TaskState
from tests.factories import (
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_run,
    change_state,
    sites_online,
    work_off,
)
from tests.identities import Person, make_person
from tests.tensors import a_delta

AFTER_THE_DEADLINE = timedelta(seconds=31)  # of factories.a_plan


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@pytest.fixture
def sites(federation: Federation) -> list[ActiveSite]:
    made = sites_online(federation, "bergen", "oslo", "turku")
    a_model(federation)
    return made


def receipts_of(federation: Federation, run_id: UUID) -> list[Receipt]:
    """Return the run's receipts, after checking that each is sealed and in its place."""
    page = federation.get(f"/runs/{run_id}/receipts")
    found: list[Receipt] = []
    parent: str | None = None
    for position, stored in enumerate(page["items"], start=1):
        told = wire.Receipt.model_validate(stored)
        body = told.body.encode()
        receipt = receipts.parse_body(body)
        sealed = SealedReceipt(
            body, told.digest, decode_base64(told.signature), decode_base64(told.public_key)
        )
        assert receipts.check_digest(sealed) is None
        assert receipts.check_signature(sealed, receipt) is None
        before = found[-1] if found else None
        assert (
            receipts.chain_problems(receipt, position=position, parent=parent, before=before) == []
        )
        assert told.number == position
        assert told.round_number == (receipt.round.round_number if receipt.round else None)
        found.append(receipt)
        parent = told.digest
    return found


def answer(sites: Sequence[ActiveSite], seed: int = 0) -> None:
    for index, site in enumerate(sites):
        site.answer(site.claim(), a_delta(seed + index), num_examples=10 * (index + 1))


def test_a_run_leaves_a_chain_that_names_who_counted_who_failed_and_who_was_late(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=2)
    work_off(federation)
    turku = sites[2].claim()
    assert sites[2].fail(turku, "out of memory").status_code == 204
    answer(sites[:2])
    work_off(federation)
    answer(sites[:2], seed=10)
    work_off(federation, now=utc_now() + AFTER_THE_DEADLINE)
    first, second, last = receipts_of(federation, run.id)

    assert first.origin is not None
    base = federation.checkpoint(run.base_checkpoint_id)
    assert first.origin.checkpoint.digest == base.digest
    assert first.origin.plan is not None
    assert json.loads(first.origin.plan)["rounds"] == 2
    assert first.round is not None
    outcomes = {entry.site.name: (entry.outcome, entry.reason) for entry in first.round.cohort}
    assert outcomes == {
        "bergen": (TaskState.DONE, None),
        "oslo": (TaskState.DONE, None),
        "turku": (TaskState.FAILED, "out of memory"),
    }
    weights = {update.site.name: (update.weight, update.scale) for update in first.round.updates}
    assert weights == {"bergen": (10, 1.0), "oslo": (20, 1.0)}
    keys = {site["name"]: site["fingerprint"] for site in federation.get("/sites")["items"]}
    assert {e.site.name: e.site.fingerprint for e in first.round.cohort} == keys
    assert first.round.aggregate is not None

    assert second.round is not None
    assert second.round.base == first.round.aggregate.checkpoint
    assert {e.site.name: e.outcome for e in second.round.cohort}["turku"] is TaskState.LATE
    assert second.origin is None

    assert last.end is not None
    ended = federation.run(run.id)
    final = federation.checkpoint(ended.latest_checkpoint_id)
    assert (last.end.cause, last.end.state) == (EndCause.FINISHED, RunState.COMPLETED)
    assert (last.end.rounds_completed, last.end.checkpoint.digest) == (2, final.digest)
    assert last.hub == federation.client.get("/v1/hub").json()["fingerprint"]
    assert last.software.keys() == {"hub", "hansa_core", "numpy", "python"}


def test_an_evaluation_round_leaves_a_receipt_with_the_reports(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation, rounds=0, evaluation={"every": 0, "final": True})
    work_off(federation)
    answers = [site.evaluate(site.claim(), {"loss": 1.0}, 5) for site in sites]
    work_off(federation)
    evaluated, last = receipts_of(federation, run.id)
    assert evaluated.round is not None
    assert evaluated.round.kind is RoundKind.EVALUATE
    assert evaluated.round.aggregate is None
    told = {entry.report for entry in evaluated.round.cohort}
    assert told == {answer.json()["digest"] for answer in answers}
    assert last.end is not None
    assert last.end.state is RunState.COMPLETED


def test_a_run_without_quorum_names_the_sites_that_did_not_answer(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation)
    work_off(federation)
    answer(sites[:1])
    assert sites[1].fail(sites[1].claim(), "disk full").status_code == 204
    change_state(federation, sites[2], "suspend", reason="ethics review")
    work_off(federation)
    failed, last = receipts_of(federation, run.id)
    assert failed.round is not None
    assert failed.round.state is RoundState.FAILED
    assert failed.round.aggregate is None
    (unused,) = failed.round.updates
    assert (unused.site.name, unused.weight) == ("bergen", None)
    assert unused.reason == failed.round.reason
    assert last.end is not None
    assert (last.end.cause, last.end.state) == (EndCause.QUORUM, RunState.FAILED)
    assert [site.site for site in last.end.sites] == ["oslo", "turku"]
    assert [site.outcome for site in last.end.sites] == [TaskState.FAILED, TaskState.FAILED]
    assert "disk full" in str(last.end.sites[0].reason)
    assert "ethics review" in str(last.end.sites[1].reason)


def test_a_cancelled_run_says_who_cancelled_it(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation)
    work_off(federation)
    answer(sites[:1])
    federation.post(f"/runs/{run.id}/cancel", expect=200)
    burnt, last = receipts_of(federation, run.id)
    assert burnt.round is not None
    assert burnt.round.state is RoundState.CANCELLED
    assert [update.weight for update in burnt.round.updates] == [None]
    assert last.end is not None
    assert last.end.cause is EndCause.CANCELLED
    assert federation.owner.email in str(last.end.reason)


def test_a_run_that_never_began_ends_with_one_receipt(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    del sites  # the model is what is needed
    run = a_run(federation, cohort={"min_sites": 9})
    federation.post(f"/runs/{run.id}/cancel", expect=200)
    (only,) = receipts_of(federation, run.id)
    assert only.end is not None
    assert only.origin is not None
    assert only.end.checkpoint == only.origin.checkpoint


def test_a_run_from_a_round_s_checkpoint_names_that_round_s_receipt(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    first = a_run(federation)
    work_off(federation)
    answer(sites)
    work_off(federation)
    made_by = federation.get(f"/runs/{first.id}/receipts")["items"][0]["digest"]
    second = a_run(federation)
    federation.post(f"/runs/{second.id}/cancel", expect=200)
    (only,) = receipts_of(federation, second.id)
    assert only.origin is not None
    assert only.origin.receipt == made_by


def test_receipts_come_in_pages(federation: Federation, sites: list[ActiveSite]) -> None:
    run = a_run(federation)
    work_off(federation)
    answer(sites)
    work_off(federation)
    first = federation.get(f"/runs/{run.id}/receipts", limit=1)
    rest = federation.get(f"/runs/{run.id}/receipts", limit=1, cursor=first["next_cursor"])
    assert [first["items"][0]["number"], rest["items"][0]["number"]] == [1, 2]
    assert rest["next_cursor"] is None
    federation.get(f"/runs/{UUID(int=0)}/receipts", expect=404)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE receipts SET number = number + 1",
        "DELETE FROM receipts",
        "TRUNCATE receipts CASCADE",
    ],
)
def test_the_database_refuses_to_change_a_receipt(
    federation: Federation, sites: list[ActiveSite], statement: str
) -> None:
    del sites
    run = a_run(federation)
    federation.post(f"/runs/{run.id}/cancel", expect=200)
    with (
        pytest.raises(DBAPIError, match="never changed or deleted"),
        federation.transactions.begin("tamper") as tx,
    ):
        tx.session.connection().exec_driver_sql(statement)
    assert len(receipts_of(federation, run.id)) == 1


def member(federation: Federation, role: Role) -> Person:
    person = make_person(federation.transactions, f"{role}@nordic.example")
    path = f"/v1/federations/{federation.slug}/members/{person.id}"
    made = federation.client.put(path, json={"role": role}, headers=federation.owner.headers)
    assert made.is_success, made.text
    return person


def hold(
    federation: Federation, run_id: UUID, digest: str, person: Person, method: str = "PUT"
) -> Any:
    path = f"/v1/federations/{federation.slug}/runs/{run_id}/receipts/{digest}/hold"
    body = {"reason": "case 12"} if method == "PUT" else None
    return federation.client.request(method, path, json=body, headers=person.headers)


def test_an_auditor_holds_what_a_receipt_needs(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    run = a_run(federation)
    work_off(federation)
    answer(sites)
    work_off(federation)
    digest = federation.get(f"/runs/{run.id}/receipts")["items"][0]["digest"]
    auditor = member(federation, Role.AUDITOR)
    for _ in range(2):
        held = hold(federation, run.id, digest, auditor)
        assert held.status_code == 200, held.text
        assert held.json()["hold"]["held_by"] == auditor.email
    shown = federation.get(f"/runs/{run.id}/receipts")["items"]
    assert [receipt["hold"] is None for receipt in shown] == [False, True]
    for _ in range(2):
        assert hold(federation, run.id, digest, auditor, "DELETE").status_code == 204
    shown = federation.get(f"/runs/{run.id}/receipts")["items"]
    assert [receipt["hold"] for receipt in shown] == [None, None]


def test_a_researcher_may_not_hold_nor_anybody_what_is_not_there(
    federation: Federation, sites: list[ActiveSite]
) -> None:
    del sites
    run = a_run(federation)
    federation.post(f"/runs/{run.id}/cancel", expect=200)
    digest = federation.get(f"/runs/{run.id}/receipts")["items"][0]["digest"]
    researcher = member(federation, Role.RESEARCHER)
    for method in ("PUT", "DELETE"):
        assert hold(federation, run.id, digest, researcher, method).status_code == 403
        missing = hold(federation, run.id, "0" * 64, federation.owner, method)
        assert missing.status_code == 404


def test_anybody_may_ask_the_hub_who_it_is(client: TestClient, settings: Settings) -> None:
    told = wire.Hub.model_validate(client.get("/v1/hub").json())
    assert told.public_key
    assert settings.signing_key.get_secret_value() not in client.get("/v1/hub").text
