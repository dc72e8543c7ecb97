"""Backup and restore as docs/operations.md says: Postgres first, then the store, under way."""

import shutil
import subprocess
from collections.abc import Generator
from pathlib import Path
from uuid import uuid4

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from app.embedded.postgres import PostgresServer
from app.main import create_app
from app.services.transactions import Transactions
from app.settings import Settings
from app.storage import open_artifacts
from hansa_core.states import RunState
from tests.factories import (
    ActiveSite,
    Federation,
    a_federation,
    a_model,
    a_run,
    sites_online,
    work_off,
)
from tests.tensors import a_delta


def libpq(url: str) -> str:
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def pg(server: PostgresServer, tool: str, *arguments: str) -> None:
    done = subprocess.run(  # noqa: S603
        [server.binaries / "bin" / tool, *arguments], check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.fixture
def restored_url(postgres_url: str) -> Generator[str]:
    """An empty database to restore into."""
    name = f"restored_{uuid4().hex}"
    _execute(postgres_url, f"CREATE DATABASE {name}")
    yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(url: str, statement: str) -> None:
    engine = create_engine(url, poolclass=NullPool, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(statement))
    engine.dispose()


def answer_round(federation: Federation, sites: list[ActiveSite]) -> None:
    work_off(federation)
    for position, site in enumerate(sites):
        task = site.claim()
        site.answer(task, a_delta(10 * task.round_number + position))
    work_off(federation)


def test_a_restored_hub_goes_on_from_the_backup_and_ends_with_the_same_bytes(
    client: TestClient,
    transactions: Transactions,
    settings: Settings,
    postgres_server: PostgresServer,
    restored_url: str,
    tmp_path: Path,
) -> None:
    federation = a_federation(client, transactions, settings)
    sites = sites_online(federation, "bergen", "oslo")
    a_model(federation)
    run = a_run(federation, rounds=3)
    answer_round(federation, sites)
    work_off(federation)
    before = sites[0].claim()
    sites[0].answer(before, a_delta(20))  # round 2 is half done

    dump = tmp_path / "hansa.dump"
    pg(
        postgres_server,
        "pg_dump",
        "-Fc",
        "-f",
        str(dump),
        "-d",
        libpq(settings.database_url.get_secret_value()),
    )
    sites[1].answer(sites[1].claim(), a_delta(21))  # work goes on between the two steps
    work_off(federation)
    store = Path(settings.artifacts_url.removeprefix("file://"))
    shutil.copytree(store, tmp_path / "copy", ignore=shutil.ignore_patterns("incoming"))
    answer_round(federation, sites)
    ended = federation.run(run.id)
    assert ended.state is RunState.COMPLETED
    expected = federation.checkpoint(ended.latest_checkpoint_id).digest

    pg(
        postgres_server,
        "pg_restore",
        "--clean",
        "--if-exists",
        "--no-owner",
        "-d",
        libpq(restored_url),
        str(dump),
    )
    again = settings.model_copy(
        update={
            "database_url": SecretStr(restored_url),
            "artifacts_url": f"file://{tmp_path}/copy",
        }
    )
    reopened = Transactions.from_settings(again)
    with TestClient(create_app(again)) as second:
        restored = Federation(
            second,
            reopened,
            open_artifacts(again),
            federation.owner,
            federation.slug,
            federation.id,
        )
        back = [ActiveSite(second, site.identity) for site in sites]
        half = restored.run(run.id)
        assert half.state is RunState.RUNNING
        assert half.rounds_completed == 1
        assert back[0].poll().status_code == 204  # its answer was in the backup
        back[1].answer(back[1].claim(), a_delta(21))  # trained again, uploaded again
        work_off(restored)
        answer_round(restored, back)
        finished = restored.run(run.id)
        assert finished.state is RunState.COMPLETED
        assert restored.checkpoint(finished.latest_checkpoint_id).digest == expected
    reopened.dispose()
