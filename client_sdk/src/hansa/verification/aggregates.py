"""Recomputing a checkpoint and its slots from stored files, in bounded memory, few files open."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from hansa_core.aggregation.inputs import Contribution, Source
from hansa_core.aggregation.jobs import Job, Sinks, aggregate, slot_names
from hansa_core.codecs.plans import CodecPlan
from hansa_core.problems import CoreError, TensorFormatError
from hansa_core.receipts import Aggregate
from hansa_core.strategies import Strategy
from hansa_core.tensor_groups import TensorsPlan
from hansa_core.tensors import ReadAt

MOST_OPEN_FILES = 256


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file by its content."""

    digest: str
    path: Path


@dataclass(frozen=True, slots=True)
class StoredUpdate:
    """One update as the aggregator takes it."""

    file: StoredFile
    weight: int
    scale: float
    scalars: Mapping[str, float] = field(default_factory=dict[str, float])
    parts: Mapping[str, StoredFile] = field(default_factory=dict[str, StoredFile])
    groups: tuple[str, ...] = ()
    root: bool = False


@dataclass(frozen=True, slots=True)
class StoredRound:
    """All that a round's checkpoint was made of."""

    base: StoredFile
    updates: Sequence[StoredUpdate]
    slots: Mapping[str, StoredFile]
    population: int | None
    tensors: TensorsPlan
    codec: CodecPlan
    participants: int | None = None  # sites that `updates` stand for, where that is not one each


@dataclass(frozen=True, slots=True)
class Recomputed:
    """The SHA-256 of what a round's files make."""

    checkpoint: str
    slots: Mapping[str, str]


def recompute(strategy: Strategy, stored: StoredRound) -> Recomputed:
    """Return what these files make by the strategy.

    Raises:
        CoreError: they cannot be combined.
        OSError: a file cannot be read.
    """
    checkpoint = hashlib.sha256()
    slots = {name: hashlib.sha256() for name in slot_names(strategy)}
    with OpenFiles() as files:

        def source(file: StoredFile) -> Source:
            return Source(file.digest, files.reader(file.path))

        job = Job(
            base=source(stored.base),
            contributions=[
                Contribution(
                    digest=update.file.digest,
                    weight=update.weight,
                    read=files.reader(update.file.path),
                    scale=update.scale,
                    scalars=update.scalars,
                    parts={name: source(part) for name, part in update.parts.items()},
                    groups=update.groups,
                    root=update.root,
                )
                for update in stored.updates
            ],
            slots={name: source(slot) for name, slot in stored.slots.items()},
            population=stored.population,
            tensors=stored.tensors,
            codec=stored.codec,
            participants=stored.participants,
        )
        sinks = Sinks(checkpoint.update, {name: it.update for name, it in slots.items()})
        aggregate(strategy, job, sinks)
    return Recomputed(checkpoint.hexdigest(), {name: it.hexdigest() for name, it in slots.items()})


def recomputing_problem(
    strategy: Strategy, stored: StoredRound, aggregate: Aggregate
) -> str | None:
    """Return how the files' aggregate differs from the one that the receipt names, or None."""
    try:
        found = recompute(strategy, stored)
    except CoreError as error:
        return f"the updates cannot be combined: {error}"
    if found.checkpoint != aggregate.checkpoint.digest:
        wanted = aggregate.checkpoint.digest
        return f"the updates give {found.checkpoint}, the receipt says {wanted}"
    said = {name: slot.digest for name, slot in aggregate.slots.items()}
    for name in sorted(found.slots.keys() | said.keys()):
        if found.slots.get(name) != said.get(name):
            return (
                f"the updates give the {name} {found.slots.get(name)}, the receipt says "
                f"{said.get(name)}"
            )
    return None


class OpenFiles:
    """Files open for reading, the least recently read closed first."""

    def __init__(self) -> None:
        self._open: OrderedDict[Path, int] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        while self._open:
            os.close(self._open.popitem()[1])

    def reader(self, path: Path) -> ReadAt:
        """Return random access to a file."""

        def read(buffer: memoryview, offset: int) -> None:
            handle = self._handle(path)
            done = 0
            while done < len(buffer):
                count = os.preadv(handle, [buffer[done:]], offset + done)
                if count == 0:
                    raise TensorFormatError(f"{path.name} ends at byte {offset + done}")
                done += count

        return read

    def _handle(self, path: Path) -> int:
        handle = self._open.pop(path, None)
        if handle is None:
            if len(self._open) >= MOST_OPEN_FILES:
                os.close(self._open.popitem(last=False)[1])
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self._open[path] = handle
        return handle
