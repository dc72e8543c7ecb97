"""A Postgres of our own: made, started, checked and stopped without root or system packages.

Invariants: it listens on a unix socket in a folder of mode 0700 and on no TCP port; every
connection needs a password (SCRAM); a half-made cluster is never used (it is made aside and
renamed); fsync stays on except for a throw-away test server. The application's role owns its
database and may create others (tests clone theirs), but is no superuser.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg import sql

from app.embedded.errors import StackError
from app.embedded.files import secret, socket_directory
from app.embedded.placement import place
from app.embedded.processes import Account, ProcessSpec, end, launch, tail

DATABASE = "hansa"  # and the role that owns it
_SUPERUSER = "postgres"
_PORT = 5432  # part of the socket's name; no TCP port is opened
_SOCKET = f".s.PGSQL.{_PORT}"
_INITDB_SECONDS = 120
_START_SECONDS = 60
_PREDECESSOR_SECONDS = 20.0  # for a server whose supervisor was killed to finish its shutdown


@dataclass(frozen=True, slots=True)
class Cluster:
    """A made cluster, running or not."""

    binaries: Path
    home: Path  # holds data/ and, where its path is short enough, run/
    socket_dir: Path
    account: Account | None
    superuser_password: str
    password: str

    @property
    def data(self) -> Path:
        """The folder Postgres calls PGDATA."""
        return self.home / "data"

    @property
    def url(self) -> str:
        """The SQLAlchemy address of the application's database."""
        host = quote(str(self.socket_dir), safe="/")
        return (
            f"postgresql+psycopg://{DATABASE}:{self.password}@/{DATABASE}?host={host}&port={_PORT}"
        )


@dataclass(frozen=True, slots=True)
class PostgresServer:
    """A running server."""

    url: str  # postgresql+psycopg://...
    pid: int
    binaries: Path  # bin/ below has pg_dump and the rest


def open_cluster(data_dir: Path, *, elsewhere: Path | None = None, durable: bool = True) -> Cluster:
    """Return the data directory's cluster, making it the first time (1-2 s).

    Raises:
        StackError: it cannot be placed or made.
    """
    where = place(data_dir, elsewhere=elsewhere)
    cluster = Cluster(
        binaries=where.binaries,
        home=where.home,
        socket_dir=socket_directory(where.home / "run", _SOCKET, where.account),
        account=where.account,
        superuser_password=secret(data_dir / "postgres-superuser-password"),
        password=secret(data_dir / "postgres-password"),
    )
    if not cluster.data.exists():
        _make(cluster, data_dir, durable=durable)
    return cluster


def postgres_spec(cluster: Cluster, *, durable: bool = True) -> ProcessSpec:
    """Describe the server process; modest memory, for a box shared with everything else."""
    options = {
        "listen_addresses": "",
        "unix_socket_directories": str(cluster.socket_dir),
        "unix_socket_permissions": "0700",
        "port": str(_PORT),
        "max_connections": "200",  # pools of the hub and of every worker process
        "shared_buffers": "64MB",
        "max_wal_size": "256MB",
        "jit": "off",
        "timezone": "UTC",
        "log_timezone": "UTC",
        "fsync": "on" if durable else "off",
        # Its processes belong to the superuser, and keep others from dropping the database.
        "autovacuum": "on" if durable else "off",
    }
    arguments = (part for key, value in options.items() for part in ("-c", f"{key}={value}"))
    return ProcessSpec(
        name="postgres",
        argv=(str(cluster.binaries / "bin" / "postgres"), "-D", str(cluster.data), *arguments),
        env={},
        account=cluster.account,
        stop_signal=signal.SIGINT,  # fast shutdown: rolls back, checkpoints, exits
        death_signal=signal.SIGINT,
        stop_seconds=30,
    )


def clear_stale_pid(cluster: Cluster, *, wait_seconds: float = _PREDECESSOR_SECONDS) -> None:
    """Remove the postmaster.pid of a server that is gone, waiting for one that is going.

    Postgres itself only asks whether any process has that number, which after a reboot or in
    a fresh container may be anything.

    Raises:
        StackError: another server is using the cluster.
    """
    path = cluster.data / "postmaster.pid"
    deadline = time.monotonic() + wait_seconds
    while path.exists():
        first = path.read_text().partition("\n")[0].strip()
        pid = int(first) if first.isdigit() else 0
        if not _is_postmaster_of(pid, cluster.data):
            path.unlink(missing_ok=True)
            (cluster.socket_dir / f"{_SOCKET}.lock").unlink(missing_ok=True)
            return
        if time.monotonic() > deadline:
            raise StackError(
                f"a Postgres with process id {pid} is using {cluster.data}; stop it with: "
                f"kill -INT {pid}"
            )
        time.sleep(0.05)


def is_ready(cluster: Cluster) -> bool:
    """Whether the server takes connections."""
    try:
        _connect(cluster).close()
    except psycopg.OperationalError:
        return False
    return True


def ensure_database(cluster: Cluster) -> None:
    """Create the application's role and database unless they exist."""
    role = sql.Identifier(DATABASE)
    with _connect(cluster) as connection:
        known = "SELECT 1 FROM pg_roles WHERE rolname = %s"
        if connection.execute(known, (DATABASE,)).fetchone() is None:
            create = sql.SQL("CREATE ROLE {} LOGIN CREATEDB PASSWORD {}")
            connection.execute(create.format(role, sql.Literal(cluster.password)))
        known = "SELECT 1 FROM pg_database WHERE datname = %s"
        if connection.execute(known, (DATABASE,)).fetchone() is None:
            connection.execute(sql.SQL("CREATE DATABASE {} OWNER {}").format(role, role))


@contextmanager
def running(data_dir: Path, *, ephemeral: bool = False) -> Generator[PostgresServer]:
    """Run a server on `data_dir` for the length of a `with` block, without restarts.

    An `ephemeral` one is for tests: it does not fsync, and what had to be placed outside
    `data_dir` is removed in the end.

    Raises:
        StackError: it does not start; the message has the end of its log.
    """
    with contextlib.ExitStack() as stack:
        elsewhere = None
        data_dir.mkdir(mode=0o711 if os.geteuid() == 0 else 0o700, parents=True, exist_ok=True)
        if ephemeral:
            elsewhere = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="hansa-pg-")))
        cluster = open_cluster(data_dir, elsewhere=elsewhere, durable=not ephemeral)
        if ephemeral and data_dir.absolute() not in cluster.socket_dir.parents:
            stack.callback(shutil.rmtree, cluster.socket_dir, ignore_errors=True)
        clear_stale_pid(cluster)
        spec = postgres_spec(cluster, durable=not ephemeral)
        log = data_dir / "postgres.log"
        process = launch(spec, log)
        stack.callback(end, process, spec)
        deadline = time.monotonic() + _START_SECONDS
        while not is_ready(cluster):
            if process.poll() is not None or time.monotonic() > deadline:
                raise StackError(f"postgres did not start; the end of {log}:\n{tail(log)}")
            time.sleep(0.02)
        ensure_database(cluster)
        yield PostgresServer(url=cluster.url, pid=process.pid, binaries=cluster.binaries)


def _make(cluster: Cluster, data_dir: Path, *, durable: bool) -> None:
    """Run initdb aside, then rename; the password reaches it in a file of its own."""
    scratch = cluster.home / "data.new"
    if scratch.exists():
        shutil.rmtree(scratch)
    log = data_dir / "initdb.log"
    with tempfile.NamedTemporaryFile("w", dir=cluster.home) as password_file:
        password_file.write(cluster.superuser_password)
        password_file.flush()
        if cluster.account:
            os.chown(password_file.name, cluster.account.uid, cluster.account.gid)
        spec = ProcessSpec(
            name="initdb",
            argv=(
                str(cluster.binaries / "bin" / "initdb"),
                *("-D", str(scratch), "-U", _SUPERUSER),
                *("--encoding=UTF8", "--locale=C.UTF-8", "--data-checksums"),
                *("--auth=scram-sha-256", f"--pwfile={password_file.name}"),
                *(() if durable else ("--no-sync",)),
            ),
            env={},
            account=cluster.account,
        )
        process = launch(spec, log)
        try:
            process.wait(_INITDB_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise StackError(f"initdb took over {_INITDB_SECONDS} s; see {log}") from error
        finally:
            end(process, spec)
    if process.returncode != 0:
        raise StackError(f"initdb failed; the end of {log}:\n{tail(log)}")
    scratch.rename(cluster.data)


def _connect(cluster: Cluster) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=str(cluster.socket_dir),
        port=_PORT,
        user=_SUPERUSER,
        password=cluster.superuser_password,
        dbname="postgres",
        connect_timeout=5,
        autocommit=True,
    )


def _is_postmaster_of(pid: int, data: Path) -> bool:
    """Whether a process is a Postgres server whose working directory is `data`."""
    process = Path("/proc") / str(pid)
    try:
        if not (process / "comm").read_text().startswith("postgres"):
            return False
        return (process / "cwd").readlink() == data.resolve()
    except (FileNotFoundError, ProcessLookupError):
        return False
    except PermissionError:
        return True  # a Postgres of a user we cannot look at: do not touch its cluster
