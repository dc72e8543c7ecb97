"""A site's sign of life, and whom a change of its state wakes."""

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier

import pytest
from starlette.testclient import TestClient

from app.db import sites as rows
from app.services import federations, sites
from app.services.sites import Change, Presence
from app.services.transactions import Transactions
from hansa_core import wire
from tests.identities import (
    SiteIdentity,
    make_federation,
    make_person,
    make_site,
    now,
    principal_of,
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


def test_of_many_at_once_one_tells_that_the_site_came(
    transactions: Transactions, site: SiteIdentity
) -> None:
    barrier = Barrier(6)
    moment = now()

    def look(_: int) -> bool:
        barrier.wait(10)
        return see(transactions, site, moment)

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(look, range(6))) == 1


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
