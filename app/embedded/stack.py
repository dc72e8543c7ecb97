"""The whole hub on one machine: which processes, in which order, with which settings.

`process_specs` is the one list of the hub's own processes; docker-compose.yml runs the same
commands with the same variables. `up` runs them, with a Postgres and a Valkey of our own
unless HANSA_DATABASE_URL or HANSA_REDIS_URL name others, until it is told to stop.
"""

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import quote

import app
from app.embedded import network, postgres, valkey
from app.embedded.errors import StackError, StopRequestedError
from app.embedded.files import locked, secret, write_private
from app.embedded.processes import ProcessSpec, Supervisor

CHECKOUT = Path(app.__file__).resolve().parents[1]  # where alembic.ini, app/ and worker/ are
STATE_FILE = "stack.json"
ADMIN_PASSWORD_FILE = "admin-password"  # noqa: S105 -- a file's name
SIGNING_KEY_FILE = "signing-key"
SIGNING_KEY_BYTES = 32  # of an Ed25519 seed
COMMAND = "hansa-hub"

_START_SECONDS = 60.0
_MIGRATE_SECONDS = 600.0
_WORKER_STOP_SECONDS = 20.0  # a task that runs longer is killed; its lease brings it back


@dataclass(frozen=True, slots=True)
class StackOptions:
    """What the caller of `hansa-hub up` chose."""

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 8400  # 0: any free one
    reload: bool = False
    worker_concurrency: int = 2
    admin_email: str = "admin@hansa.example"


@dataclass(frozen=True, slots=True)
class StackSummary:
    """What a person needs to know about a stack that is ready."""

    address: str
    admin_email: str
    admin_password_file: Path
    logs: Path
    data_dir: Path


def process_specs(
    *,
    database_url: str,
    redis_url: str,
    artifacts_url: str,
    signing_key: str,
    public_url: str,
    host: str = "127.0.0.1",
    port: int = 8400,
    worker_concurrency: int = 2,
    reload: bool = False,
) -> tuple[ProcessSpec, ...]:
    """Describe migrate, hub, worker and beat: commands, HANSA_ variables, start order.

    Pure. "postgres" and "valkey" in `depends_on` stand for whatever serves the two addresses.
    """
    env = {
        "HANSA_DATABASE_URL": database_url,
        "HANSA_REDIS_URL": redis_url,
        "HANSA_ARTIFACTS_URL": artifacts_url,
        "HANSA_SIGNING_KEY": signing_key,
        "HANSA_PUBLIC_URL": public_url,
    }
    serve = (COMMAND, "serve", "--host", host, "--port", str(port))
    work = (COMMAND, "worker", "--concurrency", str(worker_concurrency))
    needs = ("postgres", "valkey", "migrate")
    return (
        ProcessSpec("migrate", (COMMAND, "migrate"), env, ("postgres",)),
        ProcessSpec(
            "hub",
            (*serve, "--reload") if reload else serve,
            env,
            needs,
            # Not SIGKILL: a reloader has to end the process that really serves.
            death_signal=signal.SIGTERM,
        ),
        ProcessSpec("worker", work, env, needs, stop_seconds=_WORKER_STOP_SECONDS),
        ProcessSpec("beat", (COMMAND, "beat"), env, needs),
    )


def up(
    options: StackOptions,
    *,
    report: Callable[[str], None],
    ready: Callable[[StackSummary], None],
) -> None:
    """Start everything, call `ready` once the hub answers, and run until SIGINT or SIGTERM.

    Raises:
        StackError: already running, port in use, or a part does not start. Whatever had been
            started is stopped again first.
    """
    data_dir = options.data_dir.absolute()
    # As root, Postgres runs as nobody, who must be able to pass through (not to list) it.
    data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
    with locked(data_dir / "lock") as record_address:
        port = network.require_free_port(options.host, options.port)
        address = network.address_of(options.host, port)
        record_address(address)
        options = replace(options, data_dir=data_dir, port=port)
        _Run(options, address, report).run(ready)


class _Run:
    """One run of the stack under one supervisor."""

    def __init__(self, options: StackOptions, address: str, report: Callable[[str], None]) -> None:
        self._options = options
        self._address = address
        self._logs = options.data_dir / "logs"
        self._logs.mkdir(mode=0o700, exist_ok=True)
        self._report = report
        self._env: Mapping[str, str] = {}
        self._ready = False

    def run(self, ready: Callable[[StackSummary], None]) -> None:
        options = self._options
        try:
            with Supervisor(
                self._logs, report=self._report, changed=lambda: self._write_state(supervisor)
            ) as supervisor:
                try:
                    self._bring_up(supervisor)
                    self._ready = True
                    self._write_state(supervisor)
                    ready(
                        StackSummary(
                            address=self._address,
                            admin_email=options.admin_email,
                            admin_password_file=options.data_dir / ADMIN_PASSWORD_FILE,
                            logs=self._logs,
                            data_dir=options.data_dir,
                        )
                    )
                    supervisor.run()
                except StopRequestedError:
                    pass
                self._report("stopping")
        finally:
            (options.data_dir / STATE_FILE).unlink(missing_ok=True)

    def _bring_up(self, supervisor: Supervisor) -> None:
        options = self._options
        specs = {
            spec.name: _runnable(spec)
            for spec in process_specs(
                database_url=self._start_database(supervisor),
                redis_url=self._start_broker(supervisor),
                artifacts_url=self._artifacts_url(),
                signing_key=self._signing_key(),
                public_url=os.environ.get("HANSA_PUBLIC_URL") or self._address,
                host=options.host,
                port=options.port,
                worker_concurrency=options.worker_concurrency,
                reload=options.reload,
            )
        }
        migrate = specs.pop("migrate")
        self._env = migrate.env
        self._report("bringing the database up to date")
        supervisor.run_once(migrate, timeout_seconds=_MIGRATE_SECONDS)
        self._report("starting hub, worker and beat")
        for spec in specs.values():
            supervisor.start(replace(spec, depends_on=()))  # met above, some by others' servers
        self._create_admin(supervisor, migrate)
        supervisor.wait_until(
            lambda: network.answers_ready(options.host, options.port),
            "hub",
            timeout_seconds=_START_SECONDS,
        )

    def _start_database(self, supervisor: Supervisor) -> str:
        if url := os.environ.get("HANSA_DATABASE_URL"):
            network.require_database(url)
            return url
        data_dir = self._options.data_dir
        self._report("starting Postgres")
        cluster = postgres.open_cluster(data_dir)
        supervisor.start(
            postgres.postgres_spec(cluster), prepare=lambda: postgres.clear_stale_pid(cluster)
        )
        supervisor.wait_until(
            lambda: postgres.is_ready(cluster), "postgres", timeout_seconds=_START_SECONDS
        )
        postgres.ensure_database(cluster)
        return cluster.url

    def _start_broker(self, supervisor: Supervisor) -> str:
        if url := os.environ.get("HANSA_REDIS_URL"):
            if not valkey.is_ready(url):
                raise StackError(
                    "the server of HANSA_REDIS_URL does not answer; start it, correct the "
                    "address, or unset the variable to get one of our own"
                )
            return url
        data_dir = self._options.data_dir
        self._report("starting Valkey")
        url = valkey.valkey_url(data_dir)
        supervisor.start(valkey.valkey_spec(data_dir))
        supervisor.wait_until(
            lambda: valkey.is_ready(url), "valkey", timeout_seconds=_START_SECONDS
        )
        return url

    def _artifacts_url(self) -> str:
        if url := os.environ.get("HANSA_ARTIFACTS_URL"):
            return url
        folder = self._options.data_dir / "artifacts"
        folder.mkdir(mode=0o700, exist_ok=True)
        return f"file://{quote(str(folder))}"

    def _signing_key(self) -> str:
        """Return the hub's seed, made once: receipts signed with it are checked for years."""
        given = os.environ.get("HANSA_SIGNING_KEY")
        return given or secret(self._options.data_dir / SIGNING_KEY_FILE, size=SIGNING_KEY_BYTES)

    def _create_admin(self, supervisor: Supervisor, like: ProcessSpec) -> None:
        """Make sure there is an administrator; an existing one keeps its password."""
        password = secret(self._options.data_dir / ADMIN_PASSWORD_FILE)
        create = (COMMAND, "admin", "create", "--email", self._options.admin_email)
        spec = replace(
            like,
            name="admin",
            argv=_argv((*create, "--name", "Administrator", "--password-stdin")),
        )
        supervisor.run_once(spec, stdin=f"{password}\n".encode(), timeout_seconds=_START_SECONDS)

    def _write_state(self, supervisor: Supervisor) -> None:
        options = self._options
        state = {
            "pid": os.getpid(),
            "ready": self._ready,
            "address": self._address,
            "env": dict(self._env),  # the HANSA_ variables of the hub and the worker
            "children": supervisor.pids(),
            "admin_email": options.admin_email,
            "admin_password_file": str(options.data_dir / ADMIN_PASSWORD_FILE),
            "logs": str(self._logs),
        }
        write_private(options.data_dir / STATE_FILE, json.dumps(state, indent=2) + "\n")


def _runnable(spec: ProcessSpec) -> ProcessSpec:
    return replace(spec, argv=_argv(spec.argv), cwd=CHECKOUT)


def _argv(argv: tuple[str, ...]) -> tuple[str, ...]:
    """Replace the command's name by this very installation of it, whatever PATH says."""
    if argv[0] != COMMAND:
        return argv
    script = Path(sys.executable).with_name(COMMAND)
    found = str(script) if script.is_file() else shutil.which(COMMAND)
    return (found, *argv[1:]) if found else (sys.executable, "-m", "app.cli", *argv[1:])
