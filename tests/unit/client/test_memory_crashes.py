"""A site that is killed before any of its steps on disk ends up where it would have been."""

import shutil
from collections.abc import Generator
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import numpy as np
import pytest

from hansa.identity import StateDir
from hansa.journal import store_tensors
from hansa_core import wire
from hansa_core.codecs.plans import TopKPlan
from hansa_core.local_work import ControlVariates, LocalWork
from hansa_core.tensor_groups import TensorsPlan
from tests.unit.client.fake_hub import FakeHub, serving
from tests.unit.client.reapers import KilledError, Reaper
from tests.unit.client.sites import SgdTrainer, enrolled, run_site

MODEL = {
    "w": np.linspace(-1, 1, 32, dtype=np.float32).reshape(4, 8),
    "own": np.ones(3, np.float32),
}
PLAN: dict[str, Any] = {
    "local_work": LocalWork(correction=ControlVariates(kind="control-variates")),
    "tensors": TensorsPlan(personal=["own"]),
    "codec": TopKPlan(name="topk", fraction=0.25),
}
MOST_STEPS = 200


@pytest.fixture
def hub() -> Generator[FakeHub]:
    with serving(FakeHub()) as served:
        yield served


def memories(state: StateDir) -> dict[str, bytes]:
    """Return all that is remembered, by task and name."""
    files = (state.path / "memory").glob("*/*/*.safetensors")
    return {f"{path.parent.name}/{path.name}": path.read_bytes() for path in files}


def test_a_kill_before_any_step_on_disk_changes_nothing_in_the_end(
    hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = hub.add_checkpoint(store_tensors(tmp_path / "model", MODEL).path.read_bytes())
    slot = store_tensors(tmp_path / "slot", {"w": MODEL["w"]})
    hub.blobs[slot.digest] = slot.path.read_bytes()
    told = [wire.SlotRef(name="control", digest=slot.digest, size=slot.size)]
    template, run_id = enrolled(hub, tmp_path / "template"), uuid4()
    first = hub.add_task(model, run_id=run_id, **PLAN)
    assert run_site(template, SgdTrainer()).done == 1
    second = hub.add_task(
        model, run_id=run_id, follows=first.id, slots=told, round_number=2, **PLAN
    )
    wanted: tuple[Any, ...] | None = None
    reaper = Reaper(monkeypatch)
    kills = 0
    for step in range(MOST_STEPS):
        reaper.before, reaper.done = 0, 0
        state = StateDir(tmp_path / f"site-{step}")
        shutil.copytree(template.path, state.path)
        hub.tasks.append(second)
        hub.uploads.clear()
        hub.parts.clear()
        hub.updates.clear()
        reaper.before, reaper.done = step, 0
        killed = False
        try:
            run_site(state, SgdTrainer())
        except KilledError:
            killed = True
        reaper.before = 0
        if hub.tasks:  # the hub has no answer yet, and hands the task out again
            assert killed
            again = run_site(state, SgdTrainer())
            assert again.done == 1
            assert again.messages("memory_missing") == []
        said = hub.updates[-1].manifest.model_dump(exclude={"sdk_version"})
        result = (said, dict(memories(state)))
        if step == 0:
            wanted = result
            assert set(cast("dict[str, bytes]", wanted[1])) == {
                f"{task.id}/{name}.safetensors"
                for task in (first, second)
                for name in ("control", "personal", "residual")
            }
        assert result == wanted, f"killed before step {step}"
        assert {digest for digest, _ in hub.uploads} == {said["digest"]}
        shutil.rmtree(state.path)
        kills += killed
        if step and not killed:
            break
    else:
        pytest.fail(f"a round takes more than {MOST_STEPS} steps on disk")
    assert kills > 20
