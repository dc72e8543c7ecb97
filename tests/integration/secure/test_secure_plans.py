"""What plans ask of secure rounds: drawn cohorts, central evaluators, open metrics, old rosters."""

from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import text

from app.domain.clock import utc_now
from app.domain.errors import StorageUnavailableError
from app.services import housekeeping, retention
from app.services.secure import signing
from hansa_core import wire
from hansa_core.states import RoundKind, RoundState, RunState
from tests.factories import LEASE_FOR, Federation
from tests.secure_sites import (
    NAMES,
    SECURE,
    SecureSite,
    agree,
    open_up,
    started,
    step,
    whole_round,
)
from tests.tensors import BASE, a_delta


def work(site: SecureSite, task: wire.Task, **more: Any) -> Any:
    return site.work(task, a_delta(NAMES.index(site.name)), **more)


def test_a_roster_is_of_all_who_could_be_drawn_and_serves_every_draw(
    federation: Federation, sites: list[SecureSite]
) -> None:
    cohort = {"min_sites": 3, "choose": "random", "size": 3}
    run_id = started(federation, cohort=cohort, rounds=3)
    agree(run_id, sites)
    drawn: set[frozenset[str]] = set()
    for number in (1, 2, 3):
        asked = [site for site in sites if site.site.poll().status_code == 200]
        assert len(asked) == 3
        drawn.add(frozenset(site.name for site in asked))
        for site in asked:
            assert work(site, site.site.claim()).status_code == 201
        open_up(run_id, sites)  # who was not drawn is on the committee
        shown = federation.round(run_id, number).secure
        assert shown is not None
        assert (shown.roster_version, shown.members, shown.participants) == (1, 4, 3)
    assert len(drawn) > 1
    assert federation.run(run_id).state is RunState.COMPLETED


def test_sites_with_central_data_evaluate_in_the_open(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation, evaluation={"every": 1, "final": True, "evaluators": ["turku"]})
    trainers, central = sites[:3], sites[3]
    agree(run_id, trainers)
    for kind in (RoundKind.TRAIN, RoundKind.EVALUATE):
        task = central.site.claim()
        assert (task.kind, task.secure) == (RoundKind.EVALUATE, None)
        assert central.site.evaluate(task, {"loss": 9.0}, 5).status_code == 201
        for site in trainers:
            given = site.site.claim()
            assert given.kind is kind
            refused = site.site.evaluate(given, {"loss": 1.0}, 5)
            assert refused.status_code == 422
            answer = work(site, given, metrics={"eval/loss": (0.5, 4)})
            assert answer.status_code == 201, answer.text
        open_up(run_id, trainers)
    assert federation.run(run_id).state is RunState.COMPLETED
    points = federation.get(f"/runs/{run_id}/metrics", limit=100)["items"]
    means = {it["round_number"]: it["value"] for it in points if it["site_id"] is None}
    assert means == pytest.approx({0: 0.5, 1: 0.5})
    assert {it["value"] for it in points if it["site_id"] is not None} == {9.0}


def test_a_plan_may_leave_each_sites_metrics_open(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation, secure={**SECURE, "site_metrics": True})
    agree(run_id, sites)
    for place, site in enumerate(sites):
        claims = {"num_examples": 10 * (place + 1), "metrics": {"loss": float(place)}}
        answer = work(site, site.site.claim(), claims=claims)
        assert answer.status_code == 201, answer.text
    open_up(run_id, sites)
    assert federation.run(run_id).state is RunState.COMPLETED
    points = federation.get(f"/runs/{run_id}/metrics", limit=100)["items"]
    assert {it["site_name"]: it["value"] for it in points if it["site_id"] is not None} == {
        name: float(place) for place, name in enumerate(NAMES)
    }
    (mean,) = [it for it in points if it["site_id"] is None]
    assert (mean["value"], mean["num_examples"]) == (pytest.approx(2.0), 100)


def test_a_roster_that_has_served_its_rounds_is_replaced(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation, rounds=2, secure={**SECURE, "roster_rounds": 1})
    for version in (1, 2):
        whole_round(run_id, sites, work)
        shown = federation.round(run_id, version).secure
        assert shown is not None
        assert shown.roster_version == version
    assert federation.run(run_id).state is RunState.COMPLETED


def test_what_a_sum_is_checked_with_is_kept_as_long_as_its_updates(
    federation: Federation, sites: list[SecureSite]
) -> None:
    run_id = started(federation, strategy={"name": "scaffold"})
    agree(run_id, sites)
    zero = {"control": {name: it * 0 for name, it in BASE.items() if it.dtype.kind == "f"}}
    for site in sites:
        assert work(site, site.site.claim(), parts=zero).status_code == 201
    open_up(run_id, sites)
    assert federation.run(run_id).state is RunState.COMPLETED
    with federation.transactions.begin("secure") as tx:
        query = text("SELECT transcript, summed, summed_parts FROM secure_rounds")
        transcript, summed, parts = tx.session.execute(query).one()
    kept = {transcript, summed, parts["control"]}
    later = utc_now() + timedelta(days=40)
    purge(federation, later)
    assert kept <= stored(federation)  # no policy: what something refers to stays
    federation.client.patch(
        f"/v1/federations/{federation.slug}",
        json={"retention": {"updates_days": 30}},
        headers=federation.owner.headers,
    )
    receipt = federation.get(f"/runs/{run_id}/receipts")["items"][0]["digest"]
    path = f"/v1/federations/{federation.slug}/runs/{run_id}/receipts/{receipt}/hold"
    owner = federation.owner.headers
    assert federation.client.put(path, json={"reason": "a paper"}, headers=owner).is_success
    purge(federation, later)
    assert kept <= stored(federation)
    assert federation.client.delete(path, headers=owner).is_success
    purge(federation, later)
    assert not kept & stored(federation)


def purge(federation: Federation, now: Any) -> None:
    retention.apply(
        federation.transactions, federation.artifacts, now=now, grace=timedelta(hours=1)
    )


def stored(federation: Federation) -> set[str]:
    return {blob.digest for page in federation.artifacts.pages() for blob in page}


def test_an_outage_eats_no_polls_time(federation: Federation, sites: list[SecureSite]) -> None:
    run_id = started(federation)
    leases = housekeeping.Leases(of_tasks=LEASE_FOR, of_rounds=LEASE_FOR)
    now = utc_now()
    with federation.transactions.begin("sweep") as tx:
        housekeeping.note_sweep(tx, now=now, leases=leases)
    before = federation.round(run_id, 1).secure
    with federation.transactions.begin("sweep") as tx:
        housekeeping.note_sweep(tx, now=now + timedelta(hours=2), leases=leases)
    after = federation.round(run_id, 1).secure
    assert before is not None
    assert after is not None
    assert before.expires_at is not None
    assert after.expires_at is not None
    assert after.expires_at - before.expires_at == timedelta(hours=2)
    assert sites[0].do() == 1


def test_a_store_that_is_away_delays_the_signing_and_counts_as_no_attempt(
    federation: Federation, sites: list[SecureSite], monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = started(federation)
    agree(run_id, sites)
    for site in sites:
        assert work(site, site.site.claim()).status_code == 201

    def away(*_: object) -> None:
        raise StorageUnavailableError("the disk is away")

    with monkeypatch.context() as broken:
        broken.setattr(signing, "agree", away)
        step(run_id)
    assert federation.round(run_id, 1).state is RoundState.SIGNING
    assert sites[0].duties().items == []
    with federation.transactions.begin("again") as tx:
        query = text("SELECT attempts, lease_token FROM rounds")
        assert tx.session.execute(query).one() == (0, None)
        tx.session.execute(text("UPDATE rounds SET lease_expires_at = NULL"))
    open_up(run_id, sites)
    assert federation.run(run_id).state is RunState.COMPLETED
