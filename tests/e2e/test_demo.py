"""`make demo`'s program, to its end, twice in one folder."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path

import psutil
import pytest

from hansa.transfers import digest_file
from tests.e2e.processes import clean_env, spawn, stop, until

SECONDS = 300.0  # of a loaded machine; half a minute on an idle one


@pytest.fixture
def folder() -> Generator[Path]:
    """A folder that Postgres may pass through when root runs the tests."""
    with tempfile.TemporaryDirectory(prefix="hansa-demo-") as name:
        Path(name).chmod(0o711)
        yield Path(name)


def start(folder: Path, log: str) -> tuple[subprocess.Popen[bytes], Path]:
    output = folder / log
    argv = (sys.executable, "-m", "examples.demo", "--rounds", "3")
    return spawn((*argv, "--work-dir", str(folder / "work")), output, clean_env()), output


def final_digest(output: Path) -> str:
    found = re.search(r"SHA-256\s+([0-9a-f]{64})", output.read_text())
    assert found is not None, output.read_text()
    return found[1]


@pytest.mark.slow
def test_the_demo_gives_the_same_model_twice_even_if_its_hub_is_killed(folder: Path) -> None:
    process, output = start(folder, "first.log")
    try:
        assert process.wait(SECONDS) == 0, output.read_text()
    finally:
        stop(process)
    first = final_digest(output)
    model = folder / "work" / "heart-final.safetensors"
    assert digest_file(model)[0] == first
    assert "pooled" in output.read_text()

    process, output = start(folder, "second.log")
    try:
        until(
            lambda: "at first" in output.read_text() or process.poll() is not None,
            "the first round",
            seconds=SECONDS,
        )
        family = psutil.Process(process.pid).children(recursive=True)
        state = json.loads((folder / "work" / "hub" / "stack.json").read_text())
        os.kill(state["pid"], signal.SIGKILL)
        assert process.wait(SECONDS) == 0, output.read_text()
    finally:
        stop(process)
    said = output.read_text()
    assert "hansa-hub exited with signal 9" in said
    assert final_digest(output) == first
    assert "heart-2" in said
    psutil.wait_procs(family, timeout=10)
    assert not any(child.is_running() for child in family)


@pytest.mark.slow
def test_an_interrupted_demo_leaves_nothing_running(folder: Path) -> None:
    process, output = start(folder, "interrupted.log")
    try:
        until(
            lambda: "The hub's console is at" in output.read_text() or process.poll() is not None,
            "a hub",
            seconds=SECONDS,
        )
        family = psutil.Process(process.pid).children(recursive=True)
        process.send_signal(signal.SIGINT)
        assert process.wait(SECONDS) == 130, output.read_text()
    finally:
        stop(process)
    assert len(family) >= 5  # the supervisor, Postgres, the broker, the hub, the worker
    assert not any(child.is_running() for child in family)
    assert "Traceback" not in output.read_text()


def test_the_demo_names_a_wrong_option(folder: Path) -> None:
    done = subprocess.run(  # noqa: S603 -- our own command
        (sys.executable, "-m", "examples.demo", "--rounds", "0", "--work-dir", str(folder)),
        env=clean_env(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert "rounds" in done.stdout
    assert "Traceback" not in done.stderr
