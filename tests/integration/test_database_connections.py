"""The pool of database connections: what is trusted, what is checked, what stays open."""

from collections.abc import Generator

import pytest
from sqlalchemy import Engine, create_engine, text
from sqlalchemy.exc import OperationalError, ProgrammingError
from sqlalchemy.pool import NullPool

from app.db import engine as engines
from app.services.transactions import Transactions


@pytest.fixture
def engine(database_url: str) -> Generator[Engine]:
    made = engines.create_database_engine(database_url, pool_size=2)
    yield made
    made.dispose()


@pytest.fixture
def administrator(database_url: str) -> Generator[Engine]:
    made = create_engine(database_url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    yield made
    made.dispose()


def backend_of(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(text("SELECT pg_backend_pid()")).scalar_one()


def end_backend(administrator: Engine, pid: int) -> None:
    """End a server process and wait until it is gone."""
    with administrator.connect() as connection:
        ended = connection.execute(text("SELECT pg_terminate_backend(:pid, 5000)"), {"pid": pid})
        assert ended.scalar_one()


def test_an_idle_connection_that_died_is_replaced_unnoticed(
    engine: Engine, administrator: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "TRUSTED_SECONDS", 0.0)
    before = backend_of(engine)
    end_backend(administrator, before)
    assert backend_of(engine) != before


def test_a_connection_that_dies_right_after_its_use_costs_one_error(
    engine: Engine, administrator: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "TRUSTED_SECONDS", 3600.0)
    before = backend_of(engine)
    end_backend(administrator, before)
    with pytest.raises(OperationalError):
        backend_of(engine)
    assert backend_of(engine) != before


def test_a_connection_is_kept_between_uses(engine: Engine) -> None:
    with engine.connect() as first, engine.connect() as second:
        pids = {
            connection.execute(text("SELECT pg_backend_pid()")).scalar_one()
            for connection in (first, second)
        }
    assert {backend_of(engine) for _ in range(4)} <= pids


def test_a_reader_holds_no_transaction_open(
    transactions: Transactions, administrator: Engine
) -> None:
    state = text("SELECT state FROM pg_stat_activity WHERE pid = :pid")
    pid = text("SELECT pg_backend_pid()")
    seen: list[str] = []
    for begin in (transactions.reading, lambda: transactions.begin("look")):
        with begin() as tx, administrator.connect() as onlooker:
            backend = tx.session.execute(pid).scalar_one()
            seen.append(onlooker.execute(state, {"pid": backend}).scalar_one())
    assert seen == ["idle", "idle in transaction"]


def create_then_fail(transactions: Transactions) -> None:
    with transactions.begin("write") as tx:
        tx.session.execute(text("CREATE TABLE scratch (id integer)"))
        tx.session.execute(text("SELECT * FROM nowhere"))


def test_a_failed_transaction_on_a_connection_that_read_leaves_nothing(
    transactions: Transactions,
) -> None:
    with transactions.reading() as tx:
        tx.session.execute(text("SELECT 1"))
    with pytest.raises(ProgrammingError, match="nowhere"):
        create_then_fail(transactions)
    with transactions.begin("look") as tx:
        found = tx.session.execute(text("SELECT to_regclass('scratch')")).scalar_one()
    assert found is None
