"""`hansa-hub up`, whole: one start for the module, and the refusals that need none."""

import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from app.embedded.files import locked
from app.embedded.stack import process_specs

READY_SECONDS = 120.0  # of a loaded machine; a second or five of an idle one
HUB = (sys.executable, "-m", "app.cli")


@dataclass(frozen=True, slots=True)
class Stack:
    """A running `hansa-hub up`."""

    process: subprocess.Popen[str]
    data_dir: Path

    @property
    def address(self) -> str:
        return str(state(self.data_dir)["address"])

    @property
    def children(self) -> Mapping[str, int]:
        return state(self.data_dir)["children"]

    def is_ready(self) -> bool:
        try:
            url = f"{self.address}/readyz"
            with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 -- our own hub
                return answer.status == 200
        except OSError:
            return False

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


def state(data_dir: Path) -> dict[str, dict[str, int]]:
    return json.loads((data_dir / "stack.json").read_text())


def wait_for(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + READY_SECONDS
    while not condition():
        assert time.monotonic() < deadline, f"{what}: not within {READY_SECONDS} s"
        threading.Event().wait(0.05)


def own_environment(**variables: str) -> dict[str, str]:
    """Return our environment without the addresses that other tests may have set."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("HANSA_")}
    return {**kept, **variables}


def run_hub(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 -- our own command
        (*HUB, *arguments),
        env=own_environment(**variables),
        capture_output=True,
        text=True,
        timeout=READY_SECONDS,
        check=False,
    )


@contextmanager
def started(data_dir: Path, *options: str) -> Generator[Stack]:
    """Run `hansa-hub up` on any free port until the block ends, then stop it."""
    output = data_dir.parent / "output"
    with (
        output.open("w") as file,
        subprocess.Popen(  # noqa: S603 -- our own command
            (
                *(*HUB, "up", "--data-dir", str(data_dir), "--port", "0"),
                *("--worker-concurrency", "1", *options),
            ),
            env=own_environment(),
            stdout=file,
            stderr=subprocess.STDOUT,
            text=True,
        ) as process,
    ):
        try:
            wait_for(
                lambda: "to stop" in output.read_text() or process.poll() is not None, "a start"
            )
            assert process.poll() is None, output.read_text()
            yield Stack(process, data_dir)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(READY_SECONDS)


@pytest.fixture(scope="module")
def folder() -> Generator[Path]:
    """A folder that nobody can pass through, unlike pytest's as root."""
    with tempfile.TemporaryDirectory(prefix="hansa-test-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


@pytest.fixture(scope="module")
def stack(folder: Path) -> Generator[Stack]:
    with started(folder / "hub") as running:
        yield running


def verdicts(doctor: subprocess.CompletedProcess[str]) -> dict[str, str]:
    findings: Sequence[dict[str, str]] = json.loads(doctor.stdout)
    return {finding["check"]: finding["verdict"] for finding in findings}


def test_the_doctor_finds_a_started_stack_well(stack: Stack) -> None:
    doctor = run_hub("doctor", "--json", "--data-dir", str(stack.data_dir))
    found = verdicts(doctor)
    required = {"stack", "database", "migrations", "redis", "worker", "artifacts", "hub"}
    assert {found[check] for check in required} == {"ok"}, doctor.stdout
    assert doctor.returncode == 0


def test_secrets_are_private(stack: Stack) -> None:
    for name in ("admin-password", "postgres-password", "signing-key", "stack.json"):
        assert (stack.data_dir / name).stat().st_mode & 0o777 == 0o600, name
    for folder in ("logs", "artifacts", "valkey", "postgres"):
        assert (stack.data_dir / folder).stat().st_mode & 0o077 == 0, folder


def test_a_second_start_says_where_the_first_one_is(stack: Stack) -> None:
    second = run_hub("up", "--data-dir", str(stack.data_dir))
    assert second.returncode == 3
    assert f"already running as pid {stack.process.pid} at {stack.address}" in second.stderr


@pytest.mark.parametrize("name", ["postgres", "valkey", "worker", "hub"])
def test_a_killed_part_comes_back(stack: Stack, name: str) -> None:
    victim = psutil.Process(stack.children[name])
    brood = victim.children(recursive=True)
    victim.kill()
    wait_for(lambda: stack.children.get(name, victim.pid) != victim.pid, f"a new {name}")
    wait_for(stack.is_ready, "a ready hub")
    # Pool processes of a killed worker and backends of a killed Postgres go with it.
    wait_for(lambda: not any(process.is_running() for process in brood), "the end of its brood")


def test_a_killed_supervisor_leaves_nothing_and_the_next_start_takes_over(folder: Path) -> None:
    data_dir = folder / "killed"
    with started(data_dir, "--reload") as stack:  # its hub is two processes
        wait_for(
            lambda: len(psutil.Process(stack.children["worker"]).children()) == 1, "a worker's pool"
        )
        family = stack.family()
        password = (data_dir / "admin-password").read_text()
        stack.process.kill()
        stack.process.wait()
        wait_for(lambda: not any(process.is_running() for process in family), "their end")
    after = run_hub("doctor", "--json", "--data-dir", str(data_dir))
    assert verdicts(after) == {"stack": "fail"}
    with started(data_dir) as again:
        assert again.is_ready()
        assert (data_dir / "admin-password").read_text() == password
        family = again.family()
    assert not any(process.is_running() for process in family)
    assert not (data_dir / "stack.json").exists()


def test_a_port_in_use_is_named_and_nothing_starts(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        up = run_hub("up", "--data-dir", str(tmp_path), "--port", str(port))
    assert up.returncode == 4
    assert f"port {port} on 127.0.0.1 is in use" in up.stderr
    assert f"--port {port + 1}" in up.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_an_unreachable_database_is_named_without_its_password(tmp_path: Path) -> None:
    url = "postgresql+psycopg://hansa:sesame@127.0.0.1:1/hansa"
    up = run_hub("up", "--data-dir", str(tmp_path), "--port", "0", HANSA_DATABASE_URL=url)
    assert up.returncode == 1
    assert "HANSA_DATABASE_URL cannot be used" in up.stderr
    assert "sesame" not in up.stderr


def test_a_lock_left_by_a_dead_process_is_taken_over(tmp_path: Path) -> None:
    (tmp_path / "lock").write_text("pid 1 at http://127.0.0.1:8400\n" * 9)
    with locked(tmp_path / "lock") as record:
        record("http://127.0.0.1:8401")
        text = (tmp_path / "lock").read_text()
    assert text == f"pid {os.getpid()} at http://127.0.0.1:8401\n"


def test_the_doctor_names_each_missing_variable(tmp_path: Path) -> None:
    doctor = run_hub("doctor", "--json", HANSA_REDIS_URL="redis://127.0.0.1:1/0")
    assert doctor.returncode == 1
    missing = ("HANSA_DATABASE_URL", "HANSA_ARTIFACTS_URL", "HANSA_SIGNING_KEY")
    assert verdicts(doctor) == dict.fromkeys(missing, "fail")
    dead = run_hub(
        "doctor",
        "--json",
        HANSA_DATABASE_URL="postgresql+psycopg://hansa@127.0.0.1:1/hansa",
        HANSA_REDIS_URL="redis://127.0.0.1:1/0",
        HANSA_ARTIFACTS_URL=f"file://{tmp_path}/artifacts",
        HANSA_PUBLIC_URL="http://127.0.0.1:1",
        HANSA_SIGNING_KEY="A" * 43,
    )
    found = verdicts(dead)
    failed = {check for check, verdict in found.items() if verdict == "fail"}
    assert failed == {"database", "redis", "worker", "hub"}
    assert found["artifacts"] == "ok"


@pytest.mark.parametrize("command", ["serve", "worker", "beat", "migrate"])
def test_a_part_started_without_its_settings_names_them(command: str) -> None:
    part = run_hub(command, HANSA_REDIS_URL="redis://127.0.0.1:1/0")
    assert part.returncode == 1
    for name in ("HANSA_DATABASE_URL", "HANSA_ARTIFACTS_URL", "HANSA_SIGNING_KEY"):
        assert f"{name}: Field required" in part.stderr
    assert "Traceback" not in part.stderr


def test_every_process_gets_the_same_addresses() -> None:
    specs = process_specs(
        database_url="d",
        redis_url="r",
        artifacts_url="a",
        signing_key="s",
        public_url="p",
        worker_concurrency=3,
    )
    assert [spec.name for spec in specs] == ["migrate", "hub", "worker", "beat"]
    assert all(spec.env == specs[0].env for spec in specs)
    assert {spec.argv[0] for spec in specs} == {"hansa-hub"}
    assert specs[2].argv == ("hansa-hub", "worker", "--concurrency", "3")


def test_the_openapi_description_needs_no_deployment() -> None:
    first = run_hub("openapi")
    assert first.returncode == 0, first.stderr
    description = json.loads(first.stdout)
    assert description["paths"]
    expected = json.dumps(description, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    assert first.stdout == expected
