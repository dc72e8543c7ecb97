"""Recomputing a checkpoint from stored files, in bounded memory and with few open files."""

import hashlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from hansa_core.aggregation import rules
from hansa_core.aggregation.inputs import Contribution, Source
from hansa_core.problems import TensorFormatError
from hansa_core.strategies import StrategyPlan
from hansa_core.tensors import ReadAt

MOST_OPEN_FILES = 256


@dataclass(frozen=True, slots=True)
class StoredUpdate:
    """One update as the aggregator takes it."""

    digest: str
    path: Path
    weight: int
    scale: float


def recompute(
    strategy: StrategyPlan, base_digest: str, base: Path, updates: Sequence[StoredUpdate]
) -> str:
    """Return the SHA-256 of the checkpoint that these files make by the strategy's rule.

    Raises:
        CoreError: they cannot be combined.
        OSError: a file cannot be read.
    """
    hasher = hashlib.sha256()
    with _OpenFiles() as files:
        rules.aggregate(
            strategy,
            Source(base_digest, files.reader(base)),
            [
                Contribution(
                    digest=update.digest,
                    weight=update.weight,
                    read=files.reader(update.path),
                    scale=update.scale,
                )
                for update in updates
            ],
            hasher.update,
        )
    return hasher.hexdigest()


class _OpenFiles:
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
