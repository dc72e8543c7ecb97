"""The embedded Postgres: made, stopped, killed and found again, as root and not."""

import os
import signal
import stat
import subprocess
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from sqlalchemy import Connection, create_engine, make_url, text
from sqlalchemy.exc import OperationalError

from app.embedded import postgres
from app.embedded.errors import StackError
from app.embedded.files import SOCKET_PATH_BYTES


@contextmanager
def connected(url: str) -> Generator[Connection]:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


@pytest.fixture(scope="module")
def made() -> Generator[Path]:
    """A folder with a cluster in it, made once; outside pytest's, which is closed to nobody."""
    with tempfile.TemporaryDirectory(prefix="hansa-test-") as name:
        folder = Path(name) / "made"
        folder.mkdir()
        Path(name).chmod(0o711)
        postgres.open_cluster(folder)
        yield folder


@pytest.fixture
def data_dir(made: Path) -> Generator[Path]:
    """A copy of the made folder for one test."""
    with tempfile.TemporaryDirectory(prefix="copy-", dir=made.parent) as name:
        copy = ("/bin/cp", "-a", str(made), f"{name}/data")  # keeps the owners
        subprocess.run(copy, check=True)  # noqa: S603 -- our own folders
        Path(name).chmod(0o711)
        yield Path(name) / "data"


def test_data_survives_a_restart(data_dir: Path) -> None:
    with postgres.running(data_dir) as server, connected(server.url) as connection:
        connection.execute(text("CREATE TABLE kept AS SELECT 41 + 1 AS answer"))
    with postgres.running(data_dir) as again, connected(again.url) as connection:
        assert connection.scalar(text("SELECT answer FROM kept")) == 42
    assert again.url == server.url
    assert not psutil.pid_exists(again.pid)


def test_the_role_can_create_databases_but_is_no_superuser(data_dir: Path) -> None:
    with postgres.running(data_dir, ephemeral=True) as server:
        with connected(server.url) as connection:
            rights = "SELECT rolsuper, rolcreatedb FROM pg_roles WHERE rolname = current_user"
            assert tuple(connection.execute(text(rights)).one()) == (False, True)
        engine = create_engine(server.url, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(text("CREATE DATABASE copy TEMPLATE hansa"))
        engine.dispose()
        copy = make_url(server.url).set(database="copy").render_as_string(hide_password=False)
        with connected(copy) as connection:
            assert connection.scalar(text("SELECT current_database()")) == "copy"


def test_it_listens_on_no_tcp_port_and_wants_the_password(data_dir: Path) -> None:
    with postgres.running(data_dir, ephemeral=True) as server:
        with connected(server.url) as connection:
            assert connection.scalar(text("SHOW listen_addresses")) == ""
            assert connection.scalar(text("SHOW data_checksums")) == "on"
        wrong = (
            make_url(server.url).set(password=server.url[-6:]).render_as_string(hide_password=False)
        )
        with pytest.raises(OperationalError, match="password authentication failed"):
            connected(wrong).__enter__()


def test_fsync_is_on_unless_the_server_is_a_throw_away(data_dir: Path) -> None:
    with postgres.running(data_dir) as server, connected(server.url) as connection:
        assert connection.scalar(text("SHOW fsync")) == "on"


def test_passwords_are_readable_by_their_owner_alone(data_dir: Path) -> None:
    postgres.open_cluster(data_dir)
    for name in ("postgres-password", "postgres-superuser-password"):
        assert stat.S_IMODE((data_dir / name).stat().st_mode) == 0o600


def test_a_pid_file_left_by_a_crash_is_not_believed(data_dir: Path) -> None:
    """Its number now belongs to a process that lives and is no Postgres: this one."""
    cluster = postgres.open_cluster(data_dir)
    pid_file = cluster.data / "postmaster.pid"
    pid_file.write_text(f"{os.getpid()}\n{cluster.data}\n")
    if cluster.account:
        os.chown(pid_file, cluster.account.uid, cluster.account.gid)
    (cluster.socket_dir / ".s.PGSQL.5432.lock").write_text(f"{os.getpid()}\n")
    with postgres.running(data_dir, ephemeral=True) as server, connected(server.url) as connection:
        assert connection.scalar(text("SELECT 1")) == 1


def test_a_cluster_in_use_is_left_alone(data_dir: Path) -> None:
    with postgres.running(data_dir, ephemeral=True) as server:
        cluster = postgres.open_cluster(data_dir)
        with pytest.raises(StackError, match=f"process id {server.pid} is using"):
            postgres.clear_stale_pid(cluster, wait_seconds=0)
        assert (cluster.data / "postmaster.pid").exists()


def test_a_cluster_whose_making_was_interrupted_is_made_anew(data_dir: Path) -> None:
    cluster = postgres.open_cluster(data_dir)
    cluster.data.rename(cluster.home / "data.new")
    (cluster.home / "data.new" / "PG_VERSION").unlink()
    with postgres.running(data_dir, ephemeral=True) as server:
        assert psutil.pid_exists(server.pid)


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    data_dir = tmp_path / ("long" * 30)
    with postgres.running(data_dir, ephemeral=True) as server, connected(server.url) as connection:
        folder = str(make_url(server.url).query["host"])
        assert connection.scalar(text("SELECT 1")) == 1
        assert len(folder) < SOCKET_PATH_BYTES
        assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
    assert not Path(folder).exists()


def test_a_server_that_cannot_start_shows_its_log(data_dir: Path) -> None:
    cluster = postgres.open_cluster(data_dir)
    (cluster.data / "postgresql.auto.conf").write_text("work_mem = 'plenty'\n")
    message = 'invalid value for parameter "work_mem"'
    with pytest.raises(StackError, match=message), postgres.running(data_dir):
        pass


def test_a_cluster_of_another_version_names_both(data_dir: Path) -> None:
    cluster = postgres.open_cluster(data_dir)
    (cluster.data / "PG_VERSION").write_text("9.6\n")
    with pytest.raises(StackError, match=r"wanted version 9\.6, which wrote the data, found 1"):
        postgres.open_cluster(data_dir)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's folders are closed to nobody")
def test_as_root_a_closed_data_directory_keeps_its_cluster_elsewhere(tmp_path: Path) -> None:
    data_dir = tmp_path / "closed"
    data_dir.mkdir(mode=0o700)
    with postgres.running(data_dir, ephemeral=True) as server, connected(server.url) as connection:
        assert connection.scalar(text("SELECT 1")) == 1
        assert psutil.Process(server.pid).uids().real == 65534
        home = Path((data_dir / "postgres-home").read_text().strip())
        assert data_dir not in home.parents
        with psutil.Process(server.pid).oneshot():
            assert psutil.Process(server.pid).cwd() == str(home / "data")
    assert not home.exists()


def test_a_killed_server_starts_again_with_its_data(data_dir: Path) -> None:
    with postgres.running(data_dir) as server:
        with connected(server.url) as connection:
            connection.execute(text("CREATE TABLE kept AS SELECT 42 AS answer"))
        os.kill(server.pid, signal.SIGKILL)
    with postgres.running(data_dir) as again, connected(again.url) as connection:
        assert connection.scalar(text("SELECT answer FROM kept")) == 42
