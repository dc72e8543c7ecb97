"""What a site remembers of a task across a kill, and its cache of checkpoints.

    tasks/<task id>/answer.json         what was signed; its presence means the work is done
    tasks/<task id>/delta.safetensors   the trained delta that a training answer names;
                                        delta.hansa where the run's codec encodes it
    tasks/<task id>/part-<name>.safetensors   what goes with the delta
    checkpoints/<digest>.safetensors    models, the two used last
    slots/<digest>.safetensors          what of the server's own goes with the model at hand

A task goes claimed -> answered -> finished. A runner that is killed gets the same task again from
the hub; if an answer for it lies here and its files still have their digests, exactly these bytes
and this signature are sent, and nothing is trained again. Otherwise the site trains again, from the
same seed.

Durability: the delta and its parts are written and renamed before the answer that names them, and
all survive a killed process. They are not flushed to disk: a power cut may tear them, what is torn
fails its check on reading, and the price is one more training. (The key and the enrolment are
flushed: identity.py.) Answers of secure rounds are, since no update is masked twice for a round
(secure/tasks.py): what is torn of them costs the round.
"""

import hashlib
import mmap
import os
import shutil
from collections.abc import Callable, Collection, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from hansa.files import sync_folder, write_durably, write_whole
from hansa.transfers.files import digest_file
from hansa_core import wire
from hansa_core.codecs.plans import ExactPlan
from hansa_core.problems import TensorFormatError
from hansa_core.states import RoundKind
from hansa_core.tensors import ReadAt, Sink, read_tensors, view_tensors, write_tensors

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
        uploads = task.kind is RoundKind.TRAIN or task.secure is not None
        said = self.manifest if uploads else self.report
        if said is None:
            return False
        bound = None if self.manifest is None else self.manifest.secure_round
        if bound != (None if task.secure is None else task.secure.header.digest()):
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
    """A file of tensors that this process has just written."""

    path: Path
    digest: str
    size: int  # bytes


class Journal:
    """The files of one site's tasks. One process at a time: the state folder's lock sees to it."""

    def __init__(self, state_dir: Path) -> None:
        self._tasks = state_dir / "tasks"
        self._checkpoints = state_dir / "checkpoints"
        self._slots = state_dir / "slots"  # made when there is one
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

    def store_delta(
        self, task: wire.Task, write: Callable[[Sink], int], *, durable: bool = False
    ) -> StoredTensors:
        """Store what `write` gives as the delta of `task`, hashed on the way.

        `durable`: flushed to disk. Raises what `write` raises.
        """
        return store_file(self.delta_path(task), write, durable=durable)

    def store_part(
        self,
        task: wire.Task,
        name: str,
        tensors: Mapping[str, NDArray[Any]],
        *,
        durable: bool = False,
    ) -> StoredTensors:
        """Write a file that goes with the delta, hashed on the way. Raises TensorFormatError."""
        return store_tensors(self.part_path(task.id, name), tensors, durable=durable)

    def store_answer(self, task: wire.Task, answer: Answer) -> None:
        """Record what was signed for `task`; from now on it is what will be sent.

        That of a secure round is flushed to disk, with all its files: there is no other.
        """
        path = self._folder(task.id) / "answer.json"
        content = answer.model_dump_json(exclude_none=True).encode()
        if task.secure is None:
            write_whole(path, content)
            return
        write_durably(path, content)
        for folder in (self._tasks, self._tasks.parent):
            sync_folder(folder)

    def finish(self, task_id: UUID) -> None:
        """Forget a task that needs nothing any more."""
        shutil.rmtree(self._folder(task_id), ignore_errors=True)

    def delta_path(self, task: wire.Task) -> Path:
        """Return where the delta of a task lies."""
        exact = isinstance(task.codec, ExactPlan)
        return self._folder(task.id) / ("delta.safetensors" if exact else "delta.hansa")

    def part_path(self, task_id: UUID, name: str) -> Path:
        """Return where a file lies that goes with the delta of a task."""
        return self._folder(task_id) / f"part-{name}.safetensors"

    def checkpoint_path(self, digest: str) -> Path:
        """Return where a downloaded model lies, or will."""
        return self._checkpoints / f"{digest}.safetensors"

    def cached_checkpoint(self, checkpoint: wire.CheckpointRef) -> Path | None:
        """Return the stored model if it is here and whole; a damaged one is removed."""
        path = self.checkpoint_path(checkpoint.digest)
        if not _is_whole(path, checkpoint.digest, checkpoint.size):
            return None
        os.utime(path)
        return path

    def slot_path(self, digest: str) -> Path:
        """Return where a downloaded slot of the server's lies, or will."""
        self._slots.mkdir(mode=0o700, exist_ok=True)
        return self._slots / f"{digest}.safetensors"

    def cached_slot(self, slot: wire.SlotRef) -> Path | None:
        """Return the stored slot if it is here and whole; a damaged one is removed."""
        path = self.slot_path(slot.digest)
        return path if _is_whole(path, slot.digest, slot.size) else None

    def trim_slots(self, current: Collection[str]) -> None:
        """Remove all slots but those with the digests `current`: the next round has others."""
        if self._slots.is_dir():
            for path in self._slots.iterdir():
                if path.name.partition(".")[0] not in current:
                    path.unlink()

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
        if answer.manifest is None:
            return answer
        named = {self.delta_path(task): (answer.manifest.digest, answer.manifest.size)}
        for name, part in answer.manifest.parts.items():
            named[self.part_path(task.id, name)] = (part.digest, part.size)
        whole = all(_is_whole(path, *wanted) for path, wanted in named.items())
        return answer if whole else None


def store_tensors(
    path: Path, tensors: Mapping[str, NDArray[Any]], *, durable: bool = False
) -> StoredTensors:
    """Write the canonical file of `tensors` at `path`, hashed on the way.

    Raises:
        TensorFormatError: an array that the format cannot carry.
    """
    return store_file(path, lambda sink: write_tensors(tensors, sink), durable=durable)


def store_file(path: Path, write: Callable[[Sink], int], *, durable: bool = False) -> StoredTensors:
    """Put at `path` what `write` gives to its sink, hashed on the way; `durable`: flushed to disk.

    Raises what `write` raises; `path` is then as it was.
    """
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    hasher = hashlib.sha256()
    try:
        with beside.open("wb") as file:

            def sink(chunk: memoryview) -> None:
                file.write(chunk)
                hasher.update(chunk)

            size = write(sink)
            if durable:
                file.flush()
                os.fsync(file.fileno())
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
    with reading(path) as (read, size):
        return read_tensors(read, size)


def map_tensors(path: Path) -> dict[str, NDArray[Any]]:
    """Return all tensors of the file `path`, read-only, where the page cache has them.

    Nobody may write to the file while they are used; it may be removed. Its digest was checked
    before.

    Raises:
        TensorFormatError: the file is not a tensor file.
    """
    with path.open("rb", buffering=0) as file:
        if not path.stat().st_size:
            raise TensorFormatError(f"{path} is empty, wanted a tensor file")
        flags = mmap.MAP_SHARED | getattr(mmap, "MAP_POPULATE", 0)  # faults one by one cost more
        area = mmap.mmap(file.fileno(), 0, flags, mmap.PROT_READ)
    return view_tensors(memoryview(area))


@contextmanager
def reading(path: Path) -> Generator[tuple[ReadAt, int]]:
    """Yield random access to a file that nobody changes, and its size in bytes.

    Reading beyond its end raises TensorFormatError.
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

        yield read, path.stat().st_size


def _is_whole(path: Path, digest: str, size: int) -> bool:
    """Return whether a file is there with these bytes; one with others is removed."""
    try:
        if digest_file(path) == (digest, size):
            return True
    except FileNotFoundError:
        return False
    path.unlink()
    return False
