"""What a site remembers between rounds: whole or not at all, by task, and bounded."""

import os
import shutil
import time
from pathlib import Path
from uuid import UUID, uuid4

import numpy as np
import pytest

from hansa.memory import Memory, MemoryLimits

ONES = {"w": np.ones(64, np.float32)}
NAMES = ("control",)


def folder_of(root: Path, task_id: UUID) -> Path:
    (folder,) = (root / "memory").glob(f"*/{task_id}")
    return folder


def stored(memory: Memory, run_id: UUID, *, keep: tuple[UUID, ...] = ()) -> UUID:
    task_id = uuid4()
    memory.store(run_id, task_id, {"control": ONES})
    memory.trim(run_id, {task_id, *keep})
    return task_id


def kept(root: Path, run_id: UUID) -> set[str]:
    return {path.name for path in (root / "memory" / str(run_id)).iterdir()}


def test_what_was_stored_is_recalled_in_any_run(tmp_path: Path) -> None:
    memory, task_id = Memory(tmp_path), uuid4()
    memory.store(uuid4(), task_id, {"control": ONES, "personal": {"h": np.arange(3)}})
    found = Memory(tmp_path).recall(task_id, ("personal", "control"))
    assert found.lost == ()
    assert found.found["control"]["w"].tolist() == [1.0] * 64
    assert found.found["personal"]["h"].tolist() == [0, 1, 2]


def test_what_is_not_there_is_said_by_name(tmp_path: Path) -> None:
    memory, task_id = Memory(tmp_path), uuid4()
    assert memory.recall(task_id, NAMES).lost == (f"there is no control of task {task_id} here",)
    memory.store(uuid4(), task_id, {"dual": ONES})
    assert memory.recall(task_id, NAMES).lost == (f"there is no control of task {task_id} here",)


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_a_damaged_file_is_not_used(tmp_path: Path, damage: str) -> None:
    memory, task_id = Memory(tmp_path), uuid4()
    memory.store(uuid4(), task_id, {"control": ONES, "dual": ONES})
    path = folder_of(tmp_path, task_id) / "control.safetensors"
    content = path.read_bytes()
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(content[:-1] + (b"\1" if damage == "changed" else b""))
    found = memory.recall(task_id, ("control", "dual"))
    assert set(found.found) == {"dual"}
    assert f"the control of task {task_id} is damaged" in found.lost[0]


def test_a_folder_without_its_index_is_no_memory(tmp_path: Path) -> None:
    memory, task_id = Memory(tmp_path), uuid4()
    memory.store(uuid4(), task_id, {"control": ONES})
    (folder_of(tmp_path, task_id) / "memory.json").write_text("{")
    assert memory.recall(task_id, NAMES).found == {}


def test_a_second_attempt_takes_the_place_of_the_first(tmp_path: Path) -> None:
    memory, run_id, task_id = Memory(tmp_path), uuid4(), uuid4()
    memory.store(run_id, task_id, {"control": ONES, "dual": ONES})
    memory.store(run_id, task_id, {"control": {"w": np.zeros(2)}})
    found = memory.recall(task_id, ("control", "dual"))
    assert found.found["control"]["w"].tolist() == [0.0, 0.0]
    assert len(found.lost) == 1
    assert kept(tmp_path, run_id) == {str(task_id)}


def test_the_followed_task_and_the_newest_are_kept(tmp_path: Path) -> None:
    memory, run_id = Memory(tmp_path), uuid4()
    tasks = [uuid4() for _ in range(6)]
    followed, newest = tasks[0], tasks[-1]
    for number, task_id in enumerate(tasks):
        memory.store(run_id, task_id, {"control": ONES})
        then = time.time() - 100 + number  # as if a second lay between each two
        os.utime(folder_of(tmp_path, task_id) / "memory.json", (then, then))
    memory.trim(run_id, {followed, newest})
    assert kept(tmp_path, run_id) == {str(followed), str(tasks[-2]), str(newest)}


def test_what_a_kill_cut_short_is_swept(tmp_path: Path) -> None:
    memory, run_id = Memory(tmp_path), uuid4()
    stored(memory, run_id)
    (tmp_path / "memory" / str(run_id) / f"{uuid4()}.tmp").mkdir()
    newest = stored(memory, run_id)
    assert not [name for name in kept(tmp_path, run_id) if name.endswith(".tmp")]
    assert str(newest) in kept(tmp_path, run_id)


def test_a_run_that_nobody_touched_for_long_goes(tmp_path: Path) -> None:
    memory = Memory(tmp_path, MemoryLimits(days=30))
    old, used, run_id = stored(memory, uuid4()), stored(memory, uuid4()), uuid4()
    long_ago = time.time() - 31 * 86400
    for task_id in (old, used):
        os.utime(folder_of(tmp_path, task_id) / "memory.json", (long_ago, long_ago))
    assert memory.recall(used, NAMES).lost == ()  # counts as used
    stored(memory, run_id)
    assert memory.recall(old, NAMES).found == {}
    assert memory.recall(used, NAMES).lost == ()


def test_beyond_the_size_the_runs_used_longest_ago_go_and_never_the_one_at_hand(
    tmp_path: Path,
) -> None:
    memory = Memory(tmp_path, MemoryLimits(bytes=700))  # two memories of 64 float32 are more
    first, second = stored(memory, uuid4()), stored(memory, uuid4())
    for age, task_id in ((20, first), (10, second)):
        then = time.time() - age
        os.utime(folder_of(tmp_path, task_id) / "memory.json", (then, then))
    third = stored(memory, uuid4())
    assert memory.recall(third, NAMES).lost == ()
    assert memory.recall(second, NAMES).lost == ()
    assert memory.recall(first, NAMES).found == {}
    tiny = Memory(tmp_path, MemoryLimits(bytes=0))
    last = stored(tiny, uuid4())
    assert tiny.recall(last, NAMES).lost == ()
    assert tiny.recall(third, NAMES).found == {}


def test_a_site_that_never_remembered_anything_has_no_folder(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    memory.trim()
    assert list(tmp_path.iterdir()) == []
    shutil.rmtree(tmp_path)
    assert memory.recall(uuid4(), ()).lost == ()
