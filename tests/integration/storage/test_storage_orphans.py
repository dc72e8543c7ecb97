"""Listing a store page by page, and sweeping blobs that no row names, from every kind of store."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest

from app.domain.clock import utc_now
from app.services import federations, retention
from app.services.transactions import Transactions
from app.storage import filesystem, s3
from app.storage.artifacts import PROBE_FEDERATION, Artifacts, StoredBlob
from hansa_core import wire
from tests.identities import make_person, principal_of
from tests.integration.storage.places import FEDERATION, Place, put

OTHER = UUID("0198c0de-0000-7000-8000-000000000002")
DAY = timedelta(days=1)


@pytest.fixture
def small_pages(monkeypatch: pytest.MonkeyPatch) -> int:
    for store in (filesystem, s3):
        monkeypatch.setattr(store, "PAGE_BLOBS", 7)
    return 7


@pytest.fixture
def owned(transactions: Transactions) -> UUID:
    """A federation that the database knows."""
    owner = make_person(transactions, "owner@nordic.example")
    principal = principal_of(transactions, owner)
    request = wire.FederationCreate(slug="nordic", name="Nordic")
    with transactions.begin("found") as tx:
        return federations.create(tx, principal, request, now=transactions.now()).id


def everything(artifacts: Artifacts) -> list[StoredBlob]:
    return [blob for page in artifacts.pages() for blob in page]


def test_pages_hold_every_blob_once(artifacts: Artifacts, small_pages: int) -> None:
    began = datetime.now(UTC)
    names = {(FEDERATION, put(artifacts, b"a%d" % number)): number for number in range(20)}
    names |= {(OTHER, put(artifacts, b"a%d" % number, OTHER)): number for number in range(20)}
    pages = list(artifacts.pages())
    assert all(0 < len(page) <= small_pages for page in pages)
    found = [blob for page in pages for blob in page]
    assert len(found) == 40
    assert {(blob.federation_id, blob.digest) for blob in found} == set(names)
    for blob in found:
        assert blob.size == len(b"a%d" % names[blob.federation_id, blob.digest])
        assert abs(blob.modified_at - began) < timedelta(minutes=5)


def test_an_empty_store_has_no_pages(artifacts: Artifacts) -> None:
    assert list(artifacts.pages()) == []


def test_writers_at_work_and_strange_names_are_no_blobs(artifacts: Artifacts, place: Place) -> None:
    with artifacts.begin(FEDERATION) as writer:
        writer.write(b"on its way")
        assert everything(artifacts) == []
    del place


def test_old_orphans_go_and_the_rest_stays(
    artifacts: Artifacts, transactions: Transactions, owned: UUID
) -> None:
    orphan = put(artifacts, b"no row names it", owned)
    strange = put(artifacts, b"of a federation in another database", OTHER)
    probe = put(artifacts, b"left by a killed probe", PROBE_FEDERATION)
    now = utc_now()
    sweep = retention.sweep_orphans
    assert sweep(transactions, artifacts, now=now, grace=DAY) == 0  # too young
    assert artifacts.stat(owned, orphan) is not None
    assert sweep(transactions, artifacts, now=now + 2 * DAY, grace=DAY) == 1
    assert artifacts.stat(owned, orphan) is None
    assert artifacts.stat(PROBE_FEDERATION, probe) is None
    assert artifacts.stat(OTHER, strange) is not None
    assert sweep(transactions, artifacts, now=now + 2 * DAY, grace=DAY) == 0
