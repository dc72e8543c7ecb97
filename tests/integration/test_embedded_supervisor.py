"""The supervisor: restarts with growing delays, stops in order, and never leaves a child."""

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator
from pathlib import Path

import psutil
import psycopg
import pytest

from app.embedded import postgres, processes, valkey
from app.embedded.errors import StackError
from app.embedded.processes import ProcessSpec, Supervisor

DEADLINE_SECONDS = 30.0


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {DEADLINE_SECONDS} s"
        threading.Event().wait(0.02)


def gone(pid: int) -> bool:
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


@pytest.fixture(scope="module")
def data_dir() -> Generator[Path]:
    """A folder for one cluster; outside pytest's, which as root's is closed to nobody."""
    with tempfile.TemporaryDirectory(prefix="hansa-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def plain(url: str) -> str:
    """Return an SQLAlchemy address as psycopg itself takes it."""
    return url.replace("+psycopg", "", 1)


def shell(name: str, script: str) -> ProcessSpec:
    return ProcessSpec(name=name, argv=("/bin/sh", "-c", script), env={})


def sleeper(name: str) -> ProcessSpec:
    return ProcessSpec(name=name, argv=("sleep", "1000"), env={})


def test_a_failing_child_is_restarted_after_growing_delays(tmp_path: Path) -> None:
    said: list[str] = []
    with Supervisor(tmp_path, report=said.append) as supervisor:
        supervisor.start(shell("flaky", "echo cause; exit 7"))
        wanted = [f"flaky exited with status 7; restarting in {delay} s" for delay in (0.2, 0.4)]
        supervisor.wait_until(
            lambda: [line for line in said if "restarting" in line] == wanted,
            "two restarts",
            timeout_seconds=DEADLINE_SECONDS,
        )
    assert "  | cause" in said


def test_the_delay_is_capped_and_forgotten_after_a_healthy_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(processes, "LONGEST_DELAY_SECONDS", 0.04)
    monkeypatch.setattr(processes, "HEALTHY_SECONDS", 1.0)
    said: list[str] = []
    flag = tmp_path / "healthy"
    with Supervisor(tmp_path, report=said.append) as supervisor:
        supervisor.start(shell("flaky", f"test -e {flag} && sleep 1.2; kill -9 $$"))

        def delays() -> list[str]:
            return [line.split()[-2] for line in said if line.startswith("flaky exited")]

        supervisor.wait_until(
            lambda: len(delays()) >= 4, "restarts", timeout_seconds=DEADLINE_SECONDS
        )
        assert set(delays()[3:]) == {"0.04"}
        flag.touch()
        supervisor.wait_until(
            lambda: "0.01" in delays()[4:], "a healthy run", timeout_seconds=DEADLINE_SECONDS
        )


def test_a_killed_child_is_named_with_its_signal_and_replaced(tmp_path: Path) -> None:
    said: list[str] = []
    with Supervisor(tmp_path, report=said.append) as supervisor:
        supervisor.start(sleeper("worker"))
        first = supervisor.pids()["worker"]
        os.kill(first, signal.SIGKILL)
        supervisor.wait_until(
            lambda: supervisor.pids().get("worker", first) != first,
            "a new worker",
            timeout_seconds=DEADLINE_SECONDS,
        )
    assert said == ["worker exited with signal 9; restarting in 0.2 s"]


def test_what_a_killed_child_leaves_behind_is_killed(tmp_path: Path) -> None:
    note = tmp_path / "grandchild"
    with Supervisor(tmp_path, report=lambda _: None) as supervisor:
        supervisor.start(
            shell("parent", f"sleep 1000 & echo $! > {note}.new; mv {note}.new {note}; wait")
        )
        supervisor.wait_until(note.exists, "a grandchild", timeout_seconds=DEADLINE_SECONDS)
        grandchild = int(note.read_text())
        os.kill(supervisor.pids()["parent"], signal.SIGKILL)
        supervisor.wait_until(lambda: gone(grandchild), "its end", timeout_seconds=DEADLINE_SECONDS)


def test_children_stop_in_reverse_order(tmp_path: Path) -> None:
    note = tmp_path / "order"
    script = "trap 'echo {0} >> {1}; exit' TERM; touch {1}.{0}; while :; do sleep 0.02; done"
    with Supervisor(tmp_path, report=lambda _: None) as supervisor:
        for name in ("first", "second", "third"):
            supervisor.start(shell(name, script.format(name, note)))
            supervisor.wait_until(
                Path(f"{note}.{name}").exists, name, timeout_seconds=DEADLINE_SECONDS
            )
    assert note.read_text().split() == ["third", "second", "first"]


def test_a_child_that_ignores_its_signal_is_killed(tmp_path: Path) -> None:
    said: list[str] = []
    note = tmp_path / "deaf"
    spec = ProcessSpec(
        name="deaf",
        argv=("/bin/sh", "-c", f"trap '' TERM; touch {note}; while :; do sleep 1; done"),
        env={},
        stop_seconds=0.3,
    )
    with Supervisor(tmp_path, report=said.append) as supervisor:
        supervisor.start(spec)
        supervisor.wait_until(note.exists, "deaf", timeout_seconds=DEADLINE_SECONDS)
        pid = supervisor.pids()["deaf"]
    assert said == ["deaf does not stop; killing it"]
    assert gone(pid)


def test_a_failed_command_shows_its_log(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    with Supervisor(tmp_path, report=lambda _: None) as supervisor:
        with pytest.raises(StackError, match=r"(?s)migrate failed: exited with status 3.*boom"):
            supervisor.run_once(
                shell("migrate", "read word; echo $word; exit 3"),
                stdin=b"boom\n",
                timeout_seconds=DEADLINE_SECONDS,
            )
        with pytest.raises(StackError, match="not ready within"):
            supervisor.run_once(sleeper("slow"), timeout_seconds=0.2)
    assert set(psutil.Process().children()) <= before


def test_a_child_that_never_gets_ready_is_given_up(tmp_path: Path) -> None:
    with Supervisor(tmp_path, report=lambda _: None) as supervisor:
        supervisor.start(shell("hub", "echo no such table; exit 1"))
        with pytest.raises(StackError, match=r"(?s)hub keeps exiting.*no such table"):
            supervisor.wait_until(lambda: False, "hub", timeout_seconds=DEADLINE_SECONDS)


def test_a_child_is_not_started_before_what_it_needs(tmp_path: Path) -> None:
    spec = ProcessSpec(name="hub", argv=("true",), env={}, depends_on=("postgres",))
    with (
        Supervisor(tmp_path, report=lambda _: None) as supervisor,
        pytest.raises(StackError, match="hub needs postgres"),
    ):
        supervisor.start(spec)


def test_a_long_log_is_moved_aside_while_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "LOG_BYTES", 10)
    log = tmp_path / "hub.log"
    with log.open("a", buffering=1) as writer:
        writer.write("more than ten bytes\n")
        processes.bound_log(log)
        writer.write("after\n")
    assert (tmp_path / "hub.log.1").read_text() == "more than ten bytes\n"
    assert log.read_text() == "after\n"


def test_a_killed_postgres_comes_back_with_its_data_at_the_same_address(data_dir: Path) -> None:
    cluster = postgres.open_cluster(data_dir)
    said: list[str] = []
    with Supervisor(data_dir, report=said.append) as supervisor:
        supervisor.start(
            postgres.postgres_spec(cluster), prepare=lambda: postgres.clear_stale_pid(cluster)
        )

        def ready() -> bool:
            return postgres.is_ready(cluster)

        supervisor.wait_until(ready, "postgres", timeout_seconds=DEADLINE_SECONDS)
        postgres.ensure_database(cluster)
        with psycopg.connect(plain(cluster.url)) as connection:
            connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
        first = supervisor.pids()["postgres"]
        os.kill(first, signal.SIGKILL)
        supervisor.wait_until(
            lambda: supervisor.pids().get("postgres", first) != first and ready(),
            "a new postgres",
            timeout_seconds=DEADLINE_SECONDS,
        )
        with psycopg.connect(plain(cluster.url)) as connection:
            assert connection.execute("SELECT answer FROM kept").fetchone() == (42,)
    assert said[0] == "postgres exited with signal 9; restarting in 0.2 s"


SUPERVISOR_SCRIPT = """
import sys
from pathlib import Path
from app.embedded import postgres, valkey
from app.embedded.processes import ProcessSpec, Supervisor

folder = Path(sys.argv[1])
cluster = postgres.open_cluster(folder)
with Supervisor(folder, report=print) as supervisor:
    supervisor.start(postgres.postgres_spec(cluster))
    supervisor.start(valkey.valkey_spec(folder))
    supervisor.start(ProcessSpec("sleeper", ("sleep", "1000"), {}))
    supervisor.wait_until(lambda: postgres.is_ready(cluster), "postgres", timeout_seconds=30)
    print(*supervisor.pids().values(), flush=True)
    supervisor.run()
print("stopped", flush=True)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_child_outlives_the_supervisor(data_dir: Path, number: signal.Signals) -> None:
    with subprocess.Popen(  # noqa: S603 -- our own script
        (sys.executable, "-c", SUPERVISOR_SCRIPT, str(data_dir)),
        stdout=subprocess.PIPE,
        text=True,
    ) as supervisor:
        assert supervisor.stdout is not None
        pids = [int(pid) for pid in supervisor.stdout.readline().split()]
        assert len(pids) == 3
        family = [*pids, *(c.pid for pid in pids for c in psutil.Process(pid).children())]
        assert len(family) > 3  # Postgres has processes of its own
        supervisor.send_signal(number)
        rest = supervisor.stdout.read()
        assert rest == ("" if number == signal.SIGKILL else "stopped\n")
    wait_for(lambda: all(gone(pid) for pid in family), f"the end of {family}")
    cluster = postgres.open_cluster(data_dir)
    assert not (cluster.data / "postmaster.pid").exists()  # it had the time to stop cleanly
    assert not valkey.is_ready(valkey.valkey_url(data_dir))
