"""A bundle: a folder with all that a run's verification reads, and nothing secret.

    bundle.json             which run it is, and of which hub
    receipts/000001.json    wire.Receipt, by number
    updates/<task id>.json  wire.Update: the signed manifest, without the tensors
    rosters/<sha256>.json   wire.RosterView: who took part in secure rounds
    blobs/<sha256>          tensors: checkpoints and updates
    missing/<sha256>        why a file of that name is not in blobs/, in one line

Invariants: files appear whole; those in blobs/ are named by their content, so a bundle can be
completed, copied and merged file by file. Nothing in a bundle is believed because it is there.
"""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol, TypeVar
from uuid import UUID

from pydantic import BaseModel, ConfigDict, ValidationError

from hansa.errors import LocalError
from hansa.files import write_whole
from hansa_core import wire
from hansa_core.states import RunState

FORMAT: Literal["hansa-bundle/1"] = "hansa-bundle/1"
MessageT = TypeVar("MessageT", bound=BaseModel)

MAX_FILE = 256 << 20  # bytes of one JSON file


class UnavailableError(Exception):
    """A file cannot be had; the message says why."""


class DamagedError(Exception):
    """Other bytes came in a file's place; the message says which."""


class Blobs(Protocol):
    """Where a verification gets files from."""

    def fetch(self, digest: str, size: int) -> Path:
        """Return where the file is; its content is not to be trusted.

        Raises UnavailableError, DamagedError.
        """
        ...

    def release(self, keep: AbstractSet[str]) -> None:
        """Note that of the files so far only `keep` may be asked for again soon."""
        ...


class BundleInfo(BaseModel):
    """What a bundle is of."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    format: Literal["hansa-bundle/1"]
    hub_url: str
    federation: str
    run_id: UUID
    run_name: str
    run_state: RunState  # when it was collected, by the hub's word
    collected_at: datetime


@dataclass(frozen=True, slots=True)
class Bundle:
    """A bundle's folder."""

    path: Path

    def create(self, info: BundleInfo) -> None:
        """Make the folders, and say what they are of.

        Raises:
            LocalError: the folder is a bundle of another run.
        """
        if self.info_path.exists() and (known := self.info()).run_id != info.run_id:
            raise LocalError(
                f"{self.path} is a bundle of run {known.run_name} ({known.run_id})",
                hint="name another folder with --keep",
            )
        for name in ("receipts", "updates", "rosters", "blobs", "missing"):
            (self.path / name).mkdir(parents=True, exist_ok=True)
        write_whole(self.info_path, info.model_dump_json(indent=2).encode() + b"\n")

    @property
    def info_path(self) -> Path:
        """Where the bundle says what it is."""
        return self.path / "bundle.json"

    def info(self) -> BundleInfo:
        """Return what the bundle is of.

        Raises:
            LocalError: it is no bundle, or of another format.
        """
        try:
            return BundleInfo.model_validate_json(self.info_path.read_bytes())
        except FileNotFoundError as error:
            raise LocalError(
                f"{self.path} is no bundle: it has no bundle.json",
                hint="make one with `hansa verify RUN --keep DIR`",
            ) from error
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise LocalError(f"{self.info_path} is damaged: {first['msg']}") from error

    def add_receipt(self, receipt: wire.Receipt) -> None:
        """Store a receipt under its number."""
        path = self.path / "receipts" / f"{receipt.number:06}.json"
        write_whole(path, receipt.model_dump_json().encode())

    def add_update(self, update: wire.Update) -> None:
        """Store an update's manifest under its task."""
        write_whole(self._update_path(update.task_id), update.model_dump_json().encode())

    def add_roster(self, roster: wire.RosterView) -> None:
        """Store a roster under its digest."""
        write_whole(self._roster_path(roster.digest), roster.model_dump_json().encode())

    def has_roster(self, digest: str) -> bool:
        """Return whether a roster is here."""
        return self._roster_path(digest).is_file()

    def roster(self, digest: str) -> wire.RosterView | str:
        """Return a roster, or why there is none."""
        return _read(self._roster_path(digest), wire.RosterView)

    def receipts(self) -> Iterator[tuple[Path, wire.Receipt | str]]:
        """Yield the receipts in the order of their files, or what is wrong with the file."""
        for path in sorted((self.path / "receipts").glob("*.json"), key=_number):
            yield path, _read(path, wire.Receipt)

    def update(self, task_id: UUID) -> wire.Update | str:
        """Return a task's update, or why there is none."""
        return _read(self._update_path(task_id), wire.Update)

    def blob_path(self, digest: str) -> Path:
        """Where a file of that SHA-256 belongs."""
        return self.path / "blobs" / digest

    def note_missing(self, digest: str, reason: str) -> None:
        """Remember why a file is not here."""
        write_whole(self.path / "missing" / digest, reason.encode() + b"\n")

    def fetch(self, digest: str, size: int) -> Path:
        """Return where the file is. Raises UnavailableError."""
        del size  # what it should be; its SHA-256 is checked, which says more
        path = self.blob_path(digest)
        if path.is_file():
            return path
        try:
            reason = (self.path / "missing" / digest).read_text(errors="replace")[:500].strip()
        except FileNotFoundError:
            reason = "the bundle does not hold it"
        raise UnavailableError(reason)

    def release(self, keep: AbstractSet[str]) -> None:
        """Do nothing: a bundle keeps its files."""

    def _roster_path(self, digest: str) -> Path:
        return self.path / "rosters" / f"{digest}.json"

    def _update_path(self, task_id: UUID) -> Path:
        return self.path / "updates" / f"{task_id}.json"


def _number(path: Path) -> tuple[int, str]:
    return (int(path.stem) if path.stem.isdecimal() else 0, path.name)


def _read(path: Path, kind: type[MessageT]) -> MessageT | str:
    try:
        if path.stat().st_size > MAX_FILE:
            return f"{path.name} has {path.stat().st_size} bytes, wanted at most {MAX_FILE}"
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return "the bundle does not hold it"
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        return f"{path.name} cannot be read: {first['msg']}"
