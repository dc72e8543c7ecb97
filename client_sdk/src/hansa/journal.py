"""What a site remembers of a task across a kill, and its cache of checkpoints.

    tasks/<task id>/answer.json         what was signed; its presence means the work is done
    tasks/<task id>/delta.safetensors   the trained delta that a training answer names
    checkpoints/<digest>.safetensors    models, the two used last

A task goes claimed -> answered -> finished. A runner that is killed gets the same task again from
the hub; if an answer for it lies here and its delta still has its digest, exactly these bytes and
this signature are sent, and nothing is trained again. Otherwise the site trains again, from the
same seed.

Durability: the delta is written and renamed before the answer that names it, and both survive a
killed process. They are not flushed to disk: a power cut may tear them, what is torn fails its
check on reading, and the price is one more training. (The key and the enrolment are flushed:
identity.py.)
"""

import hashlib
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from hansa.files import write_whole
from hansa.transfers import digest_file
from hansa_core import wire
from hansa_core.problems import TensorFormatError
from hansa_core.states import RoundKind
from hansa_core.tensors import read_tensors, write_tensors

KEPT_CHECKPOINTS = 2
MAX_ANSWER = 1 << 20  # bytes of an answer.json


class Answer(BaseModel):
    """What the site will say, or said, to one task. Exactly one of the two is set."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    signature: str
    manifest: wire.UpdateManifest | None = None
    report: wire.EvaluationReport | None = None

    def is_for(self, task: wire.Task) -> bool:
        """Return whether this is an answer to `task` as the hub asks it now."""
        said = self.manifest if task.kind is RoundKind.TRAIN else self.report
        if said is None:
            return False
        seen = (said.task_id, said.run_id, said.site_id, said.round_number, said.checkpoint_digest)
        return seen == (
            task.id,
            task.run_id,
            task.site_id,
            task.round_number,
            task.checkpoint.digest,
        )


@dataclass(frozen=True, slots=True)
class StoredTensors:
    """A tensor file this process has just written."""

    path: Path
    digest: str
    size: int  # bytes


class Journal:
    """The files of one site's tasks. One process at a time: the state folder's lock sees to it."""

    def __init__(self, state_dir: Path) -> None:
        self._tasks = state_dir / "tasks"
        self._checkpoints = state_dir / "checkpoints"
        for folder in (self._tasks, self._checkpoints):
            folder.mkdir(mode=0o700, exist_ok=True)

    def begin(self, task: wire.Task) -> Answer | None:
        """Make room for `task` and return the answer that is ready to be sent for it, if any.

        Other tasks' folders go: the hub hands out one task at a time and has moved on.
        """
        for folder in self._tasks.iterdir():
            if folder.name != str(task.id):
                shutil.rmtree(folder, ignore_errors=True)
        folder = self._folder(task.id)
        answer = self._stored_answer(folder, task)
        if answer is None:
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir(mode=0o700)
        return answer

    def store_delta(self, task: wire.Task, tensors: Mapping[str, NDArray[Any]]) -> StoredTensors:
        """Write the canonical file of `tensors`, hashed on the way. Raises TensorFormatError."""
        return store_tensors(self.delta_path(task.id), tensors)

    def store_answer(self, task: wire.Task, answer: Answer) -> None:
        """Record what was signed for `task`; from now on it is what will be sent."""
        write_whole(
            self._folder(task.id) / "answer.json",
            answer.model_dump_json(exclude_none=True).encode(),
        )

    def finish(self, task_id: UUID) -> None:
        """Forget a task that needs nothing any more."""
        shutil.rmtree(self._folder(task_id), ignore_errors=True)

    def delta_path(self, task_id: UUID) -> Path:
        """Return where the delta of a task lies."""
        return self._folder(task_id) / "delta.safetensors"

    def checkpoint_path(self, digest: str) -> Path:
        """Return where a downloaded model lies, or will."""
        return self._checkpoints / f"{digest}.safetensors"

    def cached_checkpoint(self, checkpoint: wire.CheckpointRef) -> Path | None:
        """Return the stored model if it is here and whole; a damaged one is removed."""
        path = self.checkpoint_path(checkpoint.digest)
        try:
            if digest_file(path) == (checkpoint.digest, checkpoint.size):
                os.utime(path)
                return path
        except FileNotFoundError:
            return None
        path.unlink()
        return None

    def trim_checkpoints(self, current: str) -> None:
        """Remove all models but `current` and those used last, and other downloads cut short."""
        keep = self.checkpoint_path(current)
        files = sorted(
            self._checkpoints.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True
        )
        models = [path for path in files if path.suffix == ".safetensors" and path != keep]
        for path in files:
            if path.name.endswith(".part") and not path.name.startswith(current):
                path.unlink()
        for path in models[KEPT_CHECKPOINTS - 1 :]:
            path.unlink()

    def _folder(self, task_id: UUID) -> Path:
        return self._tasks / str(task_id)

    def _stored_answer(self, folder: Path, task: wire.Task) -> Answer | None:
        try:
            with (folder / "answer.json").open("rb") as file:
                answer = Answer.model_validate_json(file.read(MAX_ANSWER))
        except (FileNotFoundError, ValidationError):
            return None
        if not answer.is_for(task):
            return None
        if answer.manifest is not None:
            try:
                stored = digest_file(self.delta_path(task.id))
            except FileNotFoundError:
                return None
            if stored != (answer.manifest.digest, answer.manifest.size):
                return None
        return answer


def store_tensors(path: Path, tensors: Mapping[str, NDArray[Any]]) -> StoredTensors:
    """Write the canonical file of `tensors` at `path`, hashed on the way.

    Raises:
        TensorFormatError: an array that the format cannot carry.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    hasher = hashlib.sha256()
    try:
        with beside.open("wb") as file:

            def sink(chunk: memoryview) -> None:
                file.write(chunk)
                hasher.update(chunk)

            size = write_tensors(tensors, sink)
        beside.replace(path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    return StoredTensors(path, hasher.hexdigest(), size)


def load_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return all tensors of the file `path`, whose digest was checked before.

    Raises:
        TensorFormatError: the file is not a tensor file.
    """
    with path.open("rb", buffering=0) as file:

        def read(buffer: memoryview, offset: int) -> None:
            done = 0
            while done < len(buffer):
                got = os.preadv(file.fileno(), [buffer[done:]], offset + done)
                if got == 0:
                    raise TensorFormatError(
                        f"{path} ends at byte {offset + done}, wanted {offset + len(buffer)}"
                    )
                done += got

        return read_tensors(read, path.stat().st_size)
