"""Upgrades: rows that an earlier version wrote migrate, and what was going on goes on.

tests/upgrades/ has, for every schema version that was ever current, rows that its code wrote
(`NNNN.sql`) with the keys of the sites and the stored bytes (`NNNN.json`).
"""

import hashlib
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from alembic import command
from alembic.script import ScriptDirectory
from fastapi.testclient import TestClient
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from app.embedded.migrations import alembic_config
from app.main import create_app
from app.services.transactions import Transactions
from app.settings import Settings
from app.storage import open_artifacts
from hansa_core.states import RunState
from tests.factories import ActiveSite, Federation, work_off
from tests.identities import PASSWORD, Person, SiteIdentity
from tests.tensors import a_delta

SNAPSHOTS = Path(__file__).resolve().parents[1] / "upgrades"
VERSIONS = sorted(path.stem for path in SNAPSHOTS.glob("*.sql"))
WITH_PAUSES = [version for version in VERSIONS if version >= "0002"]  # and buffered rounds


@pytest.fixture
def empty_url(postgres_url: str) -> Generator[str]:
    """A database without tables."""
    name = f"upgrade_{uuid4().hex}"
    _execute(postgres_url, f"CREATE DATABASE {name}")
    yield make_url(postgres_url).set(database=name).render_as_string(hide_password=False)
    _execute(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


def _execute(url: str, script: str) -> None:
    libpq = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(libpq, autocommit=True) as connection:
        connection.execute(script.encode())  # many statements: never prepared


def _migrate(url: str, revision: str) -> None:
    config = alembic_config()
    config.attributes["database_url"] = url
    command.upgrade(config, revision)


def _load(url: str, version: str) -> dict[str, Any]:
    """Write the snapshot's rows, made as young as the test; return what goes with them."""
    rows = (SNAPSHOTS / f"{version}.sql").read_text()
    keys = _foreign_keys(url)  # runs and checkpoints point at each other
    dropped = [f"ALTER TABLE {table} DROP CONSTRAINT {name}" for table, name, _ in keys]
    added = [f"ALTER TABLE {table} ADD CONSTRAINT {name} {what}" for table, name, what in keys]
    _execute(url, ";\n".join([*dropped, rows.rstrip().rstrip(";"), *added]))
    _execute(
        url,
        """
        UPDATE rounds SET deadline_at = now() + interval '1 hour' WHERE closed_at IS NULL;
        UPDATE sites SET last_seen_at = now();
        """,
    )
    return json.loads((SNAPSHOTS / f"{version}.json").read_text())


def _foreign_keys(url: str) -> list[tuple[str, str, str]]:
    query = """
        SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE contype = 'f' AND connamespace = 'public'::regnamespace
    """
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        found = [(table, name, what) for table, name, what in connection.execute(text(query))]
    engine.dispose()
    return found


def test_every_version_but_the_newest_has_a_snapshot() -> None:
    script = ScriptDirectory.from_config(alembic_config())
    earlier = [item.revision for item in script.walk_revisions()][1:]
    assert sorted(earlier) == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_a_running_run_survives_the_upgrade_and_ends(
    version: str, empty_url: str, settings: Settings
) -> None:
    _migrate(empty_url, version)
    kept = _load(empty_url, version)
    _migrate(empty_url, "head")
    settings = settings.model_copy(update={"database_url": SecretStr(empty_url)})
    transactions = Transactions.from_settings(settings)
    with TestClient(create_app(settings)) as client:
        federation = _federation(client, transactions, settings, kept)
        if "buffered" in kept:  # work_off carries that run forward too
            _federation(client, transactions, settings, kept["buffered"])
        sites = [_site(client, name, known) for name, known in sorted(kept["sites"].items())]
        run_id = UUID(kept["run_id"])
        assert federation.run(run_id).rounds_completed == 1
        before = federation.get(f"/runs/{run_id}/receipts")["items"]
        assert len(before) == (1 if version >= "0002" else 0)  # of round 1
        for number in (2, 3):
            work_off(federation)
            for position, site in enumerate(sites):
                answer = site.poll()
                if answer.status_code == 204:
                    continue  # it had answered before the upgrade
                task = site.claim()
                assert task.round_number == number
                site.answer(task, a_delta(10 * number + position))
            work_off(federation)
        for site in sites:
            site.evaluate(site.claim(), {"loss": 0.5}, 4)
        work_off(federation)
        ended = federation.run(run_id)
        assert ended.state is RunState.COMPLETED
        assert ended.rounds_completed == 3
        assert ended.active_seconds > 0
        states = {run["name"]: run["state"] for run in federation.get("/runs")["items"]}
        assert states["waiting"] == "queued"
        assert states["draft"] == "draft"
        assert states["cancelled"] == "cancelled"
        receipts = federation.get(f"/runs/{run_id}/receipts")["items"]
        assert receipts[: len(before)] == before
        assert len(receipts) == len(before) + 4  # rounds 2, 3, the evaluation, the run
    transactions.dispose()


@pytest.mark.parametrize("version", WITH_PAUSES)
def test_what_rested_and_what_waited_for_a_buffer_go_on_after_the_upgrade(
    version: str, empty_url: str, settings: Settings
) -> None:
    _migrate(empty_url, version)
    kept = _load(empty_url, version)
    _migrate(empty_url, "head")
    settings = settings.model_copy(update={"database_url": SecretStr(empty_url)})
    transactions = Transactions.from_settings(settings)
    with TestClient(create_app(settings)) as client:
        federation = _federation(client, transactions, settings, kept)
        coast = _federation(client, transactions, settings, kept["buffered"])
        paused = federation.run(UUID(kept["paused_run_id"]))
        assert paused.state is RunState.PAUSED
        federation.post(f"/runs/{kept['run_id']}/cancel", expect=200)  # its sites are free
        federation.post(f"/runs/{paused.id}/resume", expect=200)
        work_off(federation)
        for position, (name, known) in enumerate(sorted(kept["sites"].items())):
            site = _site(client, name, known)
            task = site.claim()
            assert task.run_id == paused.id
            site.answer(task, a_delta(position))
        work_off(federation)
        ended = federation.run(paused.id)
        assert ended.state is RunState.COMPLETED
        assert ended.active_seconds > paused.active_seconds > 0
        assert federation.round(paused.id, 1).retry == 1  # its first try was burnt
        buffered = coast.run(UUID(kept["buffered"]["run_id"]))
        assert buffered.state is RunState.COMPLETED  # on what it had: no site was asked again
        assert buffered.rounds_completed == 2
    transactions.dispose()


@pytest.mark.parametrize("version", VERSIONS)
def test_the_way_back_keeps_the_rows(version: str, empty_url: str) -> None:
    _migrate(empty_url, version)
    _load(empty_url, version)
    before = _counts(empty_url)
    _migrate(empty_url, "head")
    config = alembic_config()
    config.attributes["database_url"] = empty_url
    command.downgrade(config, version)
    assert _counts(empty_url) == before


def _counts(url: str) -> dict[str, int]:
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        names = connection.execute(
            text("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        ).scalars()
        counts = {
            name: connection.execute(text(f'SELECT count(*) FROM "{name}"')).scalar_one()  # noqa: S608
            for name in sorted(names)
        }
    engine.dispose()
    return counts


def _federation(
    client: TestClient, transactions: Transactions, settings: Settings, kept: dict[str, Any]
) -> Federation:
    artifacts = open_artifacts(settings)
    federation_id = UUID(kept["federation_id"])
    for digest, content in kept["blobs"].items():
        data = bytes.fromhex(content)
        assert hashlib.sha256(data).hexdigest() == digest
        with artifacts.begin(federation_id) as writer:
            writer.write(data)
            writer.commit(digest)
    login = {"email": kept["owner"], "password": PASSWORD}
    session = client.post("/v1/session", json=login).json()
    owner = Person(UUID(session["user"]["id"]), kept["owner"], session["token"])
    return Federation(client, transactions, artifacts, owner, kept["slug"], federation_id)


def _site(client: TestClient, name: str, known: dict[str, str]) -> ActiveSite:
    """Return a site of the snapshot, which asks for a new token with its old key."""
    identity = SiteIdentity(name, private=bytes.fromhex(known["key"]), id=UUID(known["id"]))
    identity.log_in(client)
    return ActiveSite(client, identity)
