"""What `hansa-hub doctor` examines: each part of a deployment, its verdict and its cure.

Every check ends by itself within seconds and changes nothing but a probe blob in the artifact
store. A check that cannot be made because an earlier part fails says so instead of guessing.
"""

import json
import os
import resource
import shutil
import urllib.error
import urllib.request
from collections.abc import Generator, Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import cast
from urllib.parse import unquote, urlsplit

from alembic.runtime.migration import MigrationContext
from celery import Celery
from kombu.exceptions import KombuError
from pydantic import ValidationError
from redis import Redis
from redis.exceptions import RedisError
from sqlalchemy import Connection, func
from sqlalchemy.exc import SQLAlchemyError

from app.db.engine import create_database_engine
from app.domain.errors import DomainError
from app.doorbell import configure_broker, redis_py_url
from app.embedded.errors import StackError
from app.embedded.files import read_state
from app.embedded.migrations import newest_revision
from app.embedded.stack import STATE_FILE
from app.settings import Settings
from app.storage import open_artifacts
from app.storage.artifacts import probe

_OLDEST_POSTGRES = 15
_CLOCK_WARN_SECONDS = 1.0
_CLOCK_FAIL_SECONDS = 30.0  # half a task's lease
_DISK_WARN_BYTES = 10 * 2**30
_DISK_FAIL_BYTES = 2**30
_FILES_WARN = 4096  # open files: one a waiting site, and some
_PING_SECONDS = 3.0


class Verdict(StrEnum):
    OK = "ok"  # as it should be
    WARN = "warn"  # works; will bite later
    FAIL = "fail"  # does not work


@dataclass(frozen=True, slots=True)
class Finding:
    """The outcome of one check."""

    check: str
    verdict: Verdict
    seen: str
    fix: str = ""  # what to do; empty when ok


def examine(data_dir: Path | None) -> tuple[Finding, ...]:
    """Check the deployment of HANSA_*, or of the stack that runs from `data_dir`."""
    return tuple(_examine(data_dir))


def as_json(findings: Iterable[Finding]) -> str:
    """Return the findings as a JSON list of objects."""
    return json.dumps([asdict(finding) for finding in findings], indent=2)


def _examine(data_dir: Path | None) -> Generator[Finding]:
    address: str | None = None
    if data_dir is not None:
        stack, env, address = _stack(data_dir)
        yield stack
        if stack.verdict is Verdict.FAIL:
            return
        os.environ.update(env)
    try:
        settings = Settings()  # pyright: ignore[reportCallIssue] -- from the environment
    except ValidationError as error:
        yield from _wrong_settings(error)
        return
    yield Finding("settings", Verdict.OK, "every HANSA_ variable that is needed is there")
    yield from _database(settings)
    yield from _broker(settings)
    yield _artifacts(settings)
    yield _hub(address or settings.public_url)
    yield _disk(settings, data_dir)
    yield _open_files()


def _stack(data_dir: Path) -> tuple[Finding, Mapping[str, str], str | None]:
    """Return the finding about stack.json, the variables in it and the hub's address."""
    fix = f"start it: hansa-hub up --data-dir {data_dir}"
    try:
        state = read_state(data_dir / STATE_FILE)
    except StackError as error:
        return Finding("stack", Verdict.FAIL, str(error), fix), {}, None
    env = state.get("env")
    address = state.get("address")
    if not isinstance(env, dict) or not isinstance(address, str):
        return Finding("stack", Verdict.FAIL, f"{STATE_FILE} lacks env or address", fix), {}, None
    variables = {str(key): str(value) for key, value in env.items()}  # pyright: ignore[reportUnknownArgumentType, reportUnknownVariableType] -- JSON
    pid = state.get("pid")
    if not (Path("/proc") / str(pid)).exists():
        seen = f"the supervisor, pid {pid}, is gone"
        return Finding("stack", Verdict.FAIL, seen, fix), variables, address
    seen = f"supervisor pid {pid} at {address}"
    return Finding("stack", Verdict.OK, seen), variables, address


def _wrong_settings(error: ValidationError) -> Generator[Finding]:
    for problem in error.errors():
        name = "HANSA_" + "_".join(str(part) for part in problem["loc"]).upper()
        if problem["type"] == "missing":
            yield Finding(name, Verdict.FAIL, "not set", f"set {name}; see app/settings.py")
        else:
            yield Finding(name, Verdict.FAIL, problem["msg"], f"correct {name}")


def _database(settings: Settings) -> Generator[Finding]:
    engine = create_database_engine(settings.database_url.get_secret_value(), pool_size=1)
    try:
        with engine.connect() as connection:
            version = connection.dialect.server_version_info or (0,)
            seen = f"PostgreSQL {'.'.join(map(str, version))}"
            if version[0] < _OLDEST_POSTGRES:
                fix = f"use PostgreSQL {_OLDEST_POSTGRES} or newer"
                yield Finding("database", Verdict.FAIL, seen, fix)
            else:
                yield Finding("database", Verdict.OK, seen)
            yield _migrations(connection)
            yield _clock(connection)
    except SQLAlchemyError as error:
        seen = str(error.__cause__ or error).strip().splitlines()[0]
        yield Finding("database", Verdict.FAIL, seen, "start it or correct HANSA_DATABASE_URL")
    finally:
        engine.dispose()


def _migrations(connection: Connection) -> Finding:
    newest = newest_revision()
    present = MigrationContext.configure(connection).get_current_heads()
    if present == ((newest,) if newest else ()):
        return Finding("migrations", Verdict.OK, f"at {newest}")
    seen = f"at {', '.join(present) or 'nothing'}, newest is {newest}"
    return Finding("migrations", Verdict.FAIL, seen, "run: hansa-hub migrate")


def _clock(connection: Connection) -> Finding:
    before = datetime.now(UTC)
    theirs = connection.scalar(func.clock_timestamp().select())
    after = datetime.now(UTC)
    if not isinstance(theirs, datetime):
        return Finding("clock", Verdict.FAIL, f"the database says {theirs!r}", "not a time")
    seconds = abs((theirs - before - (after - before) / 2).total_seconds())
    seen = f"{seconds:.3f} s between this machine and the database"
    if seconds <= _CLOCK_WARN_SECONDS:
        return Finding("clock", Verdict.OK, seen)
    verdict = Verdict.FAIL if seconds > _CLOCK_FAIL_SECONDS else Verdict.WARN
    return Finding("clock", verdict, seen, "run NTP on both: leases and deadlines depend on it")


def _broker(settings: Settings) -> Generator[Finding]:
    url = settings.redis_url.get_secret_value()
    fix = "start it or correct HANSA_REDIS_URL"
    try:
        with Redis.from_url(redis_py_url(url), socket_timeout=5) as client:
            server = client.info("server")
            persistence = client.info("persistence")
    except (RedisError, ValueError) as error:
        yield Finding("redis", Verdict.FAIL, str(error), fix)
        yield Finding("worker", Verdict.FAIL, "not asked: redis does not answer", fix)
        return
    assert isinstance(server, dict)
    assert isinstance(persistence, dict)
    name = server.get("server_name", "redis")
    version = server.get("valkey_version") or server.get("redis_version")
    yield Finding("redis", Verdict.OK, f"{name} {version}")
    if persistence.get("aof_enabled"):
        yield Finding("redis persistence", Verdict.OK, "append-only file is on")
    else:
        fix = "set appendonly yes; until then its restart waits for the next sweep"
        yield Finding("redis persistence", Verdict.WARN, "append-only file is off", fix)
    yield _worker(url)


def _worker(url: str) -> Finding:
    fix = "start one: hansa-hub worker; if one runs, read its log"
    with Celery("hansa-doctor", set_as_current=False) as celery:
        configure_broker(celery, url)
        try:
            answer = cast(
                "list[dict[str, object]] | None", celery.control.ping(timeout=_PING_SECONDS)
            )
        except (KombuError, OSError) as error:
            return Finding("worker", Verdict.FAIL, f"cannot be asked: {error}", fix)
    names = sorted(name for reply in answer or () for name in reply)
    if not names:
        return Finding("worker", Verdict.FAIL, f"no answer in {_PING_SECONDS:g} s", fix)
    return Finding("worker", Verdict.OK, ", ".join(names))


def _artifacts(settings: Settings) -> Finding:
    fix = "correct HANSA_ARTIFACTS_URL, or let this user write there"
    try:
        probe(open_artifacts(settings))
    except (DomainError, ValueError) as error:
        return Finding("artifacts", Verdict.FAIL, str(error), fix)
    return Finding("artifacts", Verdict.OK, f"{settings.artifacts_url} takes a blob")


def _hub(address: str) -> Finding:
    url = f"{address.rstrip('/')}/readyz"
    fix = "start it: hansa-hub serve; if it runs, read its log and HANSA_PUBLIC_URL"
    if urlsplit(url).scheme not in {"http", "https"}:
        return Finding("hub", Verdict.FAIL, f"{url} is not http or https", fix)
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 -- checked above
            return Finding("hub", Verdict.OK, f"{url} answers {answer.status}")
    except urllib.error.HTTPError as error:
        with error:
            body = error.read(500).decode(errors="replace")
        return Finding("hub", Verdict.FAIL, f"{url} answers {error.code}: {body}", fix)
    except OSError as error:
        return Finding("hub", Verdict.FAIL, f"{url} does not answer: {error}", fix)


def _disk(settings: Settings, data_dir: Path | None) -> Finding:
    address = urlsplit(settings.artifacts_url)
    folder = Path(unquote(address.path)) if address.scheme == "file" else data_dir or Path.cwd()
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    seen = f"{free / 2**30:.1f} GiB free at {folder}"
    if free >= _DISK_WARN_BYTES:
        return Finding("disk", Verdict.OK, seen)
    verdict = Verdict.FAIL if free < _DISK_FAIL_BYTES else Verdict.WARN
    return Finding("disk", verdict, seen, "free space or move the artifacts")


def _open_files() -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    seen = "unlimited" if hard == resource.RLIM_INFINITY else f"at most {hard}"
    if hard != resource.RLIM_INFINITY and hard < _FILES_WARN:
        fix = f"allow {_FILES_WARN} or more (ulimit -Hn, LimitNOFILE): each waiting site holds one"
        return Finding("open files", Verdict.WARN, seen, fix)
    return Finding("open files", Verdict.OK, seen)
