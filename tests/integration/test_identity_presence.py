"""A site's sign of life, and whom a change of its state wakes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from uuid import UUID

import pytest
from starlette.testclient import TestClient

from app.db import sites as rows
from app.db.models import Artifact, Checkpoint, Model, Run
from app.domain.ids import new_id
from app.doorbell import STEP_RUN, Job
from app.services import federations, sites
from app.services.principals import Membership
from app.services.sites import Change, Presence
from app.services.transactions import Transactions, Tx
from hansa_core import wire
from hansa_core.states import RunState
from tests.identities import (
    DEADLINE_SECONDS,
    SiteIdentity,
    make_federation,
    make_person,
    make_site,
    now,
    principal_of,
    wait_until_one_waits,
)

ONLINE_FOR = timedelta(seconds=120)
HARDWARE = wire.Hardware(cpus=8, memory_bytes=2**35, gpus=["one"])


@pytest.fixture
def site(client: TestClient, transactions: Transactions) -> SiteIdentity:
    owner = make_person(transactions)
    return make_site(client, owner, make_federation(client, owner))


def see(
    transactions: Transactions,
    site: SiteIdentity,
    at: datetime,
    *,
    sdk_version: str = "",
    hardware: wire.Hardware | None = None,
) -> bool:
    with transactions.begin("seen") as tx:
        return sites.seen(tx, site.id, at, sdk_version, hardware, online_for=ONLINE_FOR)


def last_seen(transactions: Transactions, site: SiteIdentity) -> datetime | None:
    with transactions.begin("last_seen") as tx:
        return rows.last_seen(tx.session, site.id)


def test_a_sign_of_life_is_written_at_most_every_ten_seconds(
    transactions: Transactions, site: SiteIdentity
) -> None:
    start = now()
    assert see(transactions, site, start)
    for offset, written in ((9.9, 0.0), (10.0, 10.0), (12.0, 10.0), (25.0, 25.0)):
        assert not see(transactions, site, start + timedelta(seconds=offset))
        assert last_seen(transactions, site) == start + timedelta(seconds=written)


def test_a_site_comes_back_online_after_its_time(
    transactions: Transactions, site: SiteIdentity
) -> None:
    start = now()
    assert see(transactions, site, start)
    assert not see(transactions, site, start + ONLINE_FOR)
    assert see(transactions, site, start + 2 * ONLINE_FOR + timedelta(seconds=1))


def test_of_two_at_once_one_tells_that_the_site_came(
    transactions: Transactions, site: SiteIdentity
) -> None:
    moment = now()
    with ThreadPoolExecutor(1) as pool:
        with transactions.begin("first") as tx:
            assert sites.seen(tx, site.id, moment, "", None, online_for=ONLINE_FOR)
            second = pool.submit(see, transactions, site, moment)
            wait_until_one_waits(transactions)
        assert second.result(DEADLINE_SECONDS) is False


def test_what_a_site_tells_of_itself_is_shown(
    client: TestClient, transactions: Transactions
) -> None:
    owner = make_person(transactions)
    site = make_site(client, owner, make_federation(client, owner))
    see(transactions, site, now(), sdk_version="9.9", hardware=HARDWARE)
    see(transactions, site, now() + timedelta(seconds=11))  # tells nothing: the old stays
    path = f"/v1/federations/nordic/sites/{site.id}"
    shown = client.get(path, headers=owner.headers).json()
    assert shown["online"] is True
    assert (shown["sdk_version"], shown["hardware"]["gpus"]) == ("9.9", ["one"])


def test_a_change_of_state_rings_the_sites_topic(
    client: TestClient, transactions: Transactions
) -> None:
    owner = make_person(transactions)
    site = make_site(client, owner, make_federation(client, owner))
    principal = principal_of(transactions, owner)
    presence = Presence(now(), ONLINE_FOR)
    with transactions.begin("suspend") as tx:
        membership = federations.access(tx, principal, "nordic")
        request = wire.SiteStateChange(reason="check")
        sites.change(tx, membership, site.id, Change.SUSPEND, request, presence)
        assert tx.topics == {site.id, membership.federation_id}
    with transactions.begin("again") as tx:
        sites.change(tx, membership, site.id, Change.SUSPEND, request, presence)
        assert not tx.topics


def test_a_site_that_may_work_again_wakes_the_runs_that_are_alive(
    client: TestClient, transactions: Transactions
) -> None:
    owner = make_person(transactions)
    site = make_site(client, owner, make_federation(client, owner))
    make_federation(client, owner, "other")
    principal = principal_of(transactions, owner)
    with transactions.begin("add_runs") as tx:
        membership = federations.access(tx, principal, "nordic")
        other = federations.access(tx, principal, "other")
        alive = {add_run(tx, membership, state) for state in (RunState.QUEUED, RunState.RUNNING)}
        for state in (RunState.DRAFT, RunState.COMPLETED, RunState.CANCELLED):
            add_run(tx, membership, state)
        add_run(tx, other, RunState.QUEUED)
    presence = Presence(now(), ONLINE_FOR)
    request = wire.SiteStateChange()
    with transactions.begin("suspend") as tx:
        sites.change(tx, membership, site.id, Change.SUSPEND, request, presence)
    with transactions.begin("reinstate") as tx:
        sites.change(tx, membership, site.id, Change.REINSTATE, request, presence)
        assert set(tx.jobs) == {Job(STEP_RUN, run_id) for run_id in alive}


def add_run(tx: Tx, membership: Membership, state: RunState) -> UUID:
    """Write a run in this state, with all that its row has to point at."""
    common = {"federation_id": membership.federation_id, "created_at": now()}
    made_by = {"created_by": membership.principal.user_id}
    model_id, checkpoint_id, run_id = new_id(), new_id(), new_id()
    digest = run_id.hex * 2
    tx.session.add(Artifact(digest=digest, size=1, **common))
    tx.session.add(Model(id=model_id, name=str(model_id), description="", **common, **made_by))
    tx.session.flush()
    tx.session.add(Checkpoint(id=checkpoint_id, model_id=model_id, digest=digest, **common))
    tx.session.flush()
    tx.session.add(
        Run(
            id=run_id,
            name="run",
            state=state,
            plan={},
            plan_digest=digest,
            model_id=model_id,
            base_checkpoint_id=checkpoint_id,
            latest_checkpoint_id=checkpoint_id,
            **common,
            **made_by,
        )
    )
    return run_id
