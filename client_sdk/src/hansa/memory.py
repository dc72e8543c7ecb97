"""What a site remembers from one round of a run to a later one, by the task it was made in.

    memory/<run id>/<task id>/memory.json          digests and sizes of the files beside it
    memory/<run id>/<task id>/<name>.safetensors   control, dual, personal, residual

A task names the one that it goes on from (`follows`): the site's last whose update counted. So the
hub's word decides which memory is in force, and that of an update which was refused, or lost with
its round, is never looked at again. A forked run goes on from tasks of its parent, wherever they
lie.

Invariants: a task's folder appears whole or not at all, flushed to disk, before the answer that it
belongs to is stored; a file is used only with the digest and size noted beside it.

Bounds: of a run, the task at hand, the one it follows and the newest others, `tasks` in all; a run
that was not touched for `days` goes, and beyond `bytes` in all those that were used longest ago,
the run at hand excepted.
"""

import os
import shutil
import time
from collections.abc import Collection, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from hansa.files import sync_folder, write_durably
from hansa.journal import load_tensors, store_tensors
from hansa.transfers.files import digest_file
from hansa_core.problems import TensorFormatError

MAX_INDEX = 1 << 20  # bytes of a memory.json
INDEX = "memory.json"
DAY = 86400.0  # seconds

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """How much is kept."""

    tasks: int = 3  # of one run
    days: float = 30.0  # since a run was last used
    bytes: int = 64 * 2**30  # of all runs but the one at hand


@dataclass(frozen=True, slots=True)
class Recollection:
    """What was found of a task's memory, and what was looked for in vain."""

    found: Mapping[str, Tensors]
    lost: tuple[str, ...]  # one sentence each


class _StoredFile(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    digest: str
    size: int  # bytes


class _Index(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    files: dict[str, _StoredFile]


class Memory:
    """The memories of one site. One process at a time: the state folder's lock sees to it."""

    def __init__(self, state_dir: Path, limits: MemoryLimits | None = None) -> None:
        self._root = state_dir / "memory"
        self._limits = limits or MemoryLimits()

    def recall(self, task_id: UUID, names: Iterable[str]) -> Recollection:
        """Return what was remembered in `task_id`, in whichever run that was; it counts as used."""
        folder = next(self._root.glob(f"*/{task_id}"), None)
        index = None if folder is None else _read_index(folder)
        found: dict[str, Tensors] = {}
        lost: list[str] = []
        for name in names:
            stored = None if index is None else index.files.get(name)
            if folder is None or stored is None:
                lost.append(f"there is no {name} of task {task_id} here")
                continue
            try:
                found[name] = _read(folder / _file_name(name), stored)
            except (OSError, TensorFormatError) as error:
                lost.append(f"the {name} of task {task_id} is damaged: {error}")
        if folder is not None and index is not None:
            os.utime(folder / INDEX)
        return Recollection(found, tuple(lost))

    def store(self, run_id: UUID, task_id: UUID, tensors: Mapping[str, Tensors]) -> None:
        """Remember these files of a task, in place of what an earlier attempt at it remembered.

        Raises OSError; TensorFormatError for an array that the format cannot carry.
        """
        run = self._root / str(run_id)
        run.mkdir(mode=0o700, parents=True, exist_ok=True)
        beside, folder = run / f"{task_id}.tmp", run / str(task_id)
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir(mode=0o700)
        files: dict[str, _StoredFile] = {}
        for name, arrays in tensors.items():
            stored = store_tensors(beside / _file_name(name), arrays, durable=True)
            files[name] = _StoredFile(digest=stored.digest, size=stored.size)
        write_durably(beside / INDEX, _Index(files=files).model_dump_json().encode())
        # Between these two there is none: the answer is not stored yet, so it is made again.
        shutil.rmtree(folder, ignore_errors=True)
        beside.replace(folder)
        for changed in (run, self._root, self._root.parent):
            sync_folder(changed)

    def trim(self, run_id: UUID | None = None, keep: Collection[UUID] = ()) -> None:
        """Forget what is beyond the limits: nothing of `keep`, and of `run_id` only old tasks."""
        if not self._root.is_dir():
            return
        at_hand = None if run_id is None else self._root / str(run_id)
        if at_hand is not None and at_hand.is_dir():
            self._trim_run(at_hand, {str(task_id) for task_id in keep})
        others = sorted(
            (
                (_used_at(run), run)
                for run in self._root.iterdir()
                if run != at_hand and run.is_dir()
            ),
            reverse=True,
        )
        oldest = time.time() - self._limits.days * DAY
        total = 0
        for used_at, run in others:
            total += _size_of(run)
            if used_at < oldest or total > self._limits.bytes:
                shutil.rmtree(run, ignore_errors=True)

    def _trim_run(self, run: Path, keep: set[str]) -> None:
        newest_first = sorted(
            (folder for folder in run.iterdir() if folder.name not in keep),
            key=lambda folder: (folder.suffix == "", _written_at(folder)),
            reverse=True,
        )
        room = max(0, self._limits.tasks - len(keep))
        for number, folder in enumerate(newest_first):
            if number >= room or folder.suffix:  # a suffix: cut short
                shutil.rmtree(folder, ignore_errors=True)


def _file_name(name: str) -> str:
    return f"{name}.safetensors"


def _read_index(folder: Path) -> _Index | None:
    try:
        with (folder / INDEX).open("rb") as file:
            return _Index.model_validate_json(file.read(MAX_INDEX))
    except (OSError, ValidationError):
        return None


def _read(path: Path, stored: _StoredFile) -> dict[str, NDArray[Any]]:
    seen = digest_file(path)
    if seen != (stored.digest, stored.size):
        raise TensorFormatError(
            f"{path.name} has {seen[1]} bytes with SHA-256 {seen[0]}, "
            f"wanted {stored.size} with {stored.digest}"
        )
    return load_tensors(path)


def _written_at(folder: Path) -> float:
    """Return when a task's memory was made or last used, in seconds since 1970; 0: never whole."""
    with suppress(OSError):
        return (folder / INDEX).stat().st_mtime
    return 0.0


def _used_at(run: Path) -> float:
    return max((_written_at(folder) for folder in run.iterdir()), default=0.0)


def _size_of(run: Path) -> int:
    return sum(path.stat().st_size for path in run.rglob("*") if path.is_file())
