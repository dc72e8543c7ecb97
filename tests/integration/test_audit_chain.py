"""The audit log's chain on a real Postgres: no gaps, no forks, no changes, no cost elsewhere."""

import threading
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import replace
from uuid import UUID

import pytest
from fastapi.testclient import TestClient
from pydantic import JsonValue
from sqlalchemy import event, text
from sqlalchemy.exc import DBAPIError

from app.services.principals import HUB
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core.audit import Actor, ActorKind, Head, seal, verify_chain
from hansa_core.problems import BrokenChainError, ChainFault
from tests.audits import actions_of, entries_of, sealed_of, tamper
from tests.factories import Federation, a_federation

WRITERS = 8
EACH = 12  # transactions of a writer


@pytest.fixture
def federation(client: TestClient, transactions: Transactions, settings: Settings) -> Federation:
    return a_federation(client, transactions, settings)


@contextmanager
def statements(transactions: Transactions) -> Generator[list[str]]:
    """Collect the statements that are sent to the database."""
    seen: list[str] = []
    engine = transactions.sessions.kw["bind"]

    def note(*arguments: object) -> None:
        seen.append(str(arguments[2]))

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def write(transactions: Transactions, federation_id: UUID, count: int) -> None:
    for number in range(count):
        with transactions.begin("write", by=HUB) as tx:
            tx.record("thing.done", federation_id=federation_id, number=number)


def test_concurrent_writers_leave_one_chain_without_gaps(
    transactions: Transactions, federation: Federation
) -> None:
    start = threading.Barrier(WRITERS)

    def writer(index: int) -> None:
        by = Actor(ActorKind.SITE, f"site-{index}", address="192.0.2.1")
        start.wait(10)
        for number in range(EACH):
            with transactions.begin("write", by=by) as tx:
                tx.record("thing.done", federation_id=federation.id, number=number)
                if number % 3 == 0:
                    tx.audit("thing.seen", federation_id=federation.id, number=number)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(writer, range(WRITERS)))
    chain = verify_chain(sealed_of(transactions, federation.id))
    assert chain is not None
    assert (chain.first, chain.head.number) == (1, WRITERS * (EACH + EACH // 3))
    entries = entries_of(transactions, federation.id)
    assert [entry.at for entry in entries] == sorted(entry.at for entry in entries)
    for index in range(WRITERS):  # nobody's own order is lost
        own = [str(e.data["number"]) for e in entries if e.actor.name == f"site-{index}"]
        assert own == sorted(own, key=int)


def test_transactions_over_several_chains_do_not_deadlock(
    client: TestClient, transactions: Transactions, settings: Settings, federation: Federation
) -> None:
    other = a_federation(client, transactions, settings, "baltic")
    start = threading.Barrier(WRITERS)

    def writer(index: int) -> None:
        chains = [federation.id, other.id][:: 1 if index % 2 else -1]
        start.wait(10)
        for _ in range(EACH):
            with transactions.begin("write", by=HUB) as tx:
                tx.audit("thing.seen", federation_id=None)
                for chain in chains:
                    tx.audit("thing.seen", federation_id=chain)
                    tx.record("thing.done", federation_id=chain)

    with ThreadPoolExecutor(WRITERS) as pool:
        list(pool.map(writer, range(WRITERS)))
    for chain, per_transaction in ((federation.id, 2), (other.id, 2), (None, 1)):
        found = verify_chain(sealed_of(transactions, chain))
        assert found is not None
        assert found.head.number == WRITERS * EACH * per_transaction


def test_a_rolled_back_transaction_leaves_no_entry_and_no_gap(
    transactions: Transactions, federation: Federation
) -> None:
    write(transactions, federation.id, 1)
    with suppress(DBAPIError), transactions.begin("fail", by=HUB) as tx:
        tx.record("thing.failed", federation_id=federation.id)
        tx.session.execute(text("SELECT 1/0"))
    write(transactions, federation.id, 1)
    assert actions_of(transactions, federation.id) == ["thing.done", "thing.done"]
    assert verify_chain(sealed_of(transactions, federation.id)) is not None


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_entries SET actor = 'eve'",
        "DELETE FROM audit_entries",
        "TRUNCATE audit_entries",
    ],
)
def test_the_database_refuses_to_change_or_remove_entries(
    transactions: Transactions, federation: Federation, statement: str
) -> None:
    write(transactions, federation.id, 2)
    before = sealed_of(transactions, federation.id)
    with (
        pytest.raises(DBAPIError, match="never changed or deleted"),
        transactions.begin("change") as tx,
    ):
        tx.session.execute(text(statement))
    assert sealed_of(transactions, federation.id) == before


def test_a_flipped_bit_is_found_where_it_is(
    transactions: Transactions, federation: Federation
) -> None:
    write(transactions, federation.id, 5)
    tamper(
        transactions,
        "UPDATE audit_entries SET body = replace(body, 'thing.done', 'thing.dond') "
        "WHERE number = 3",
    )
    with pytest.raises(BrokenChainError) as caught:
        verify_chain(sealed_of(transactions, federation.id))
    assert (caught.value.number, caught.value.fault) == (3, ChainFault.CHANGED)


def test_a_removed_entry_and_a_cut_end_are_found(
    transactions: Transactions, federation: Federation
) -> None:
    write(transactions, federation.id, 5)
    whole = sealed_of(transactions, federation.id)
    tamper(transactions, "DELETE FROM audit_entries WHERE number = 5")
    cut = sealed_of(transactions, federation.id)
    assert verify_chain(cut) is not None  # nothing in the log itself can tell
    with pytest.raises(BrokenChainError) as caught:
        verify_chain(cut, kept=[Head(5, whole[4].digest)])
    assert (caught.value.number, caught.value.fault) == (5, ChainFault.TRUNCATED)
    tamper(transactions, "DELETE FROM audit_entries WHERE number = 2")
    with pytest.raises(BrokenChainError) as caught:
        verify_chain(sealed_of(transactions, federation.id))
    assert (caught.value.number, caught.value.fault) == (2, ChainFault.GAP)


def test_an_entry_that_is_changed_with_its_digest_breaks_the_next_one(
    transactions: Transactions, federation: Federation
) -> None:
    write(transactions, federation.id, 4)
    entry = entries_of(transactions, federation.id)[1]
    forged = seal(replace(entry, action="thing.undone"))
    tamper(
        transactions,
        "UPDATE audit_entries SET body = :body, digest = :digest WHERE number = 2",
        body=forged.body,
        digest=forged.digest,
    )
    with pytest.raises(BrokenChainError) as caught:
        verify_chain(sealed_of(transactions, federation.id))
    assert (caught.value.number, caught.value.fault) == (3, ChainFault.UNLINKED)


def test_a_transaction_without_an_actor_costs_nothing_and_leaves_nothing(
    transactions: Transactions, federation: Federation
) -> None:
    transactions.now()  # the clock is measured
    with statements(transactions) as seen, transactions.begin("traffic") as tx:
        tx.record("thing.done", federation_id=federation.id)
        tx.audit("thing.seen", federation_id=federation.id)
    assert len(seen) == 2, seen  # the events' lock and the event
    assert "audit_entries" not in "".join(seen)
    assert tx.entries == []
    assert sealed_of(transactions, federation.id) == []
    with statements(transactions) as seen, transactions.begin("deed", by=HUB) as tx:
        tx.record("thing.done", federation_id=federation.id)
    assert len(seen) == 5, seen  # and the chain's lock, its head, the entry


def test_a_transaction_that_records_nothing_takes_no_lock(transactions: Transactions) -> None:
    transactions.now()
    with statements(transactions) as seen, transactions.begin("look", by=HUB):
        pass
    assert seen == []


def test_every_kind_of_text_is_chained_as_it_was(
    transactions: Transactions, federation: Federation
) -> None:
    odd: dict[str, JsonValue] = {
        "a": "\x00 ☃ \U0001f600 \"'\\ \u2028",
        "b": [1.0, -0.0, 2**63, None, True],
        "c": {"": 0},
    }
    with transactions.begin("odd", by=HUB) as tx:
        tx.audit("thing.odd", federation_id=federation.id, **odd)
    (entry,) = entries_of(transactions, federation.id)
    assert entry.data == odd
    assert verify_chain(sealed_of(transactions, federation.id)) is not None
