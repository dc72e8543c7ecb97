"""A real runner process, killed at every stage: what it had signed is sent, byte for byte."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest

from hansa.identity import StateDir, open_state_dir
from hansa.journal import Answer, store_tensors
from hansa.options import RunnerOptions
from hansa.runner import SiteRunner
from hansa.site import enroll
from tests.unit.client.fake_hub import DEADLINE, FakeHub, serving

# Never the same delta twice: equal uploads prove that nothing was trained again.
TRAINER = """
import os
import socket
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from hansa.trainer import TrainResult


@dataclass
class Config:
    pass


class Trainer:
    config_type = Config

    def initial_tensors(self, config, seed):
        raise NotImplementedError

    def train(self, tensors, context):
        with Path("trained").open("a") as log:
            log.write("x")
        if Path("hold").exists():
            with socket.create_connection(("127.0.0.1", int(Path("hold").read_text()))) as test:
                test.recv(1)  # until the test says so, or for ever
        noise = np.frombuffer(os.urandom(4 * 64), np.uint32).astype(np.float32)
        return TrainResult({"w": tensors["w"] + noise}, 10, {})

    def evaluate(self, tensors, context):
        return None


trainer = Trainer()
"""


@pytest.fixture
def hub() -> Generator[FakeHub]:
    with serving(FakeHub()) as served:
        yield served


@pytest.fixture
def state(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StateDir:
    monkeypatch.chdir(tmp_path)  # where the trainer keeps its log
    made = open_state_dir(tmp_path / "site", create=True)
    enroll(made, hub.url, "invitation-1", name="clinic-a")
    (tmp_path / "noisy_trainer.py").write_text(TRAINER)
    model = store_tensors(tmp_path / "model", {"w": np.zeros(64, np.float32)}).path.read_bytes()
    hub.add_task(hub.add_checkpoint(model))
    return made


def start(state: StateDir, *options: str) -> "subprocess.Popen[str]":
    arguments = ["site", "run", "--trainer", "noisy_trainer:trainer", *options]
    return subprocess.Popen(  # noqa: S603 -- our own command
        [sys.executable, "-c", "from hansa.cli import main; main()", *arguments],
        cwd=state.path.parent,
        env={**os.environ, "HANSA_SITE_DIR": str(state.path)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finish(process: "subprocess.Popen[str]") -> str:
    output, _ = process.communicate(timeout=DEADLINE)
    return output


def resume(state: StateDir) -> list[str]:
    """Do one task in this process, as a restarted runner would, and return the events' kinds."""
    spec = spec_from_file_location("noisy_trainer", state.path.parent / "noisy_trainer.py")
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    kinds: list[str] = []
    runner = SiteRunner(
        state,
        module.trainer,
        options=RunnerOptions(max_tasks=1),
        on_event=lambda event: kinds.append(event.kind),
    )
    assert runner.run().done == 1, kinds
    return kinds


def read_until(process: "subprocess.Popen[str]", text: str) -> None:
    assert process.stdout is not None
    assert any(text in line for line in iter(process.stdout.readline, ""))


def kill(process: "subprocess.Popen[str]") -> None:
    process.kill()
    finish(process)


@contextmanager
def holding_trainings(state: StateDir) -> Generator[socket.socket]:
    """Let every training connect to the yielded socket and wait for a byte."""
    hold = state.path.parent / "hold"
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(DEADLINE)
        hold.write_text(str(server.getsockname()[1]))
        yield server
        hold.unlink()


def trainings(state: StateDir) -> int:
    return len((state.path.parent / "trained").read_text())


@pytest.mark.parametrize(
    ("held", "times_trained"),
    [
        ("/checkpoint", 1),  # killed while it downloads
        ("PUT /v1/tasks", 1),  # with the answer signed, nothing of it sent
        ("/update", 1),  # with the delta stored at the hub and the answer not
    ],
)
def test_runner_killed_while_it_waits_for_the_hub_resumes(
    hub: FakeHub, state: StateDir, held: str, times_trained: int
) -> None:
    gate = hub.gate(held)
    first = start(state, "--once")
    assert gate.reached.wait(DEADLINE)
    kill(first)
    stored = [
        Answer.model_validate_json(file.read_bytes())
        for file in (state.path / "tasks").glob("*/answer.json")
    ]
    gate.opened.set()
    kinds = resume(state)
    assert len(hub.updates) == 1
    for signed in stored:
        assert (hub.updates[0].signature, hub.updates[0].manifest) == (
            signed.signature,
            signed.manifest,
        )
    assert trainings(state) == times_trained
    assert len({content for _, content in hub.uploads}) == 1
    assert ("task_resumed" in kinds) == bool(stored)
    assert list((state.path / "tasks").iterdir()) == []


def test_runner_killed_in_training_trains_again(hub: FakeHub, state: StateDir) -> None:
    with holding_trainings(state) as server:
        first = start(state, "--once")
        training, _ = server.accept()
        with training:
            kill(first)
    resume(state)
    assert trainings(state) == 2
    assert len(hub.updates) == 1


def test_torn_delta_is_not_sent(hub: FakeHub, state: StateDir) -> None:
    gate = hub.gate("PUT /v1/tasks")
    first = start(state, "--once")
    assert gate.reached.wait(DEADLINE)
    kill(first)
    gate.opened.set()
    (delta,) = (state.path / "tasks").glob("*/delta.safetensors")
    os.truncate(delta, 100)  # as a power cut may leave it
    resume(state)
    assert trainings(state) == 2
    assert hub.updates[-1].manifest.digest == hub.uploads[-1][0]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_runner_stops_at_the_first_signal(
    hub: FakeHub, state: StateDir, number: signal.Signals
) -> None:
    hub.tasks.clear()
    process = start(state)
    hub.wait_for(lambda: hub.count("/claim") == 1)
    process.send_signal(number)
    output = finish(process)
    assert process.returncode == 0, output
    assert "stopped after 0 done" in output


def test_training_runner_finishes_its_task_at_the_first_signal(
    hub: FakeHub, state: StateDir
) -> None:
    with holding_trainings(state) as server:
        process = start(state)
        training, _ = server.accept()
        with training:
            process.send_signal(signal.SIGTERM)
            read_until(process, "once more stops now")
            training.send(b"!")
            finish(process)
    assert process.returncode == 0
    assert len(hub.updates) == 1


def test_training_runner_stops_at_once_at_the_second_signal(hub: FakeHub, state: StateDir) -> None:
    with holding_trainings(state) as server:
        process = start(state)
        training, _ = server.accept()
        with training:
            process.send_signal(signal.SIGTERM)
            read_until(process, "once more stops now")
            process.send_signal(signal.SIGTERM)
            finish(process)
    assert process.returncode == 0
    assert (hub.updates, hub.failures) == ([], [])
