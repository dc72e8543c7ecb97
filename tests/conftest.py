"""Fixtures on the real Postgres and Redis: one of each a test process, one database a test."""

from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import pytest
from alembic import command
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import create_engine, make_url, text
from sqlalchemy.pool import NullPool

from app.embedded import postgres, valkey
from app.embedded.migrations import alembic_config
from app.main import create_app
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core.signing import encode_base64

TEMPLATE = "hansa_template"
SIGNING_KEY = encode_base64(bytes(range(32)))  # the hub's, in every test


@pytest.fixture(scope="session")
def postgres_server(
    tmp_path_factory: pytest.TempPathFactory,
) -> Generator[postgres.PostgresServer]:
    """A server for this test process."""
    with postgres.running(tmp_path_factory.mktemp("postgres"), ephemeral=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_url(postgres_server: postgres.PostgresServer) -> str:
    """The URL of a server for this test process."""
    return postgres_server.url


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Generator[str]:
    """The URL of a Redis-compatible server for this test process."""
    with valkey.running(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url


@pytest.fixture(scope="session")
def template_url(postgres_url: str) -> str:
    """A migrated database that every test's own is copied from."""
    _administer(postgres_url, f"CREATE DATABASE {TEMPLATE}")
    url = make_url(postgres_url).set(database=TEMPLATE).render_as_string(hide_password=False)
    config = alembic_config()
    config.attributes["database_url"] = url
    command.upgrade(config, "head")
    return url


@pytest.fixture
def database_url(postgres_url: str, template_url: str) -> Generator[str]:
    """A fresh, migrated database."""
    del template_url  # it has to exist
    name = f"test_{uuid4().hex}"
    _administer(postgres_url, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    _administer(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def settings(database_url: str, redis_url: str, tmp_path: Path) -> Settings:
    """Settings of a hub on the test's own database and store."""
    return Settings(
        database_url=SecretStr(database_url),
        redis_url=SecretStr(redis_url),
        artifacts_url=f"file://{tmp_path}/artifacts",
        signing_key=SecretStr(SIGNING_KEY),
        log_format="console",
    )


@pytest.fixture
def transactions(settings: Settings) -> Generator[Transactions]:
    """Transactions on the test's own database."""
    opened = Transactions.from_settings(settings)
    yield opened
    opened.dispose()


@pytest.fixture
def client(settings: Settings) -> Generator[TestClient]:
    """A client of a hub in this process, its lifespan running."""
    with TestClient(create_app(settings), raise_server_exceptions=False) as opened:
        yield opened


def _administer(url: str, statement: str) -> None:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()
