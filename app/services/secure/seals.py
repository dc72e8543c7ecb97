"""Files of seals where they are stored: commitments in memory, seals read when they are asked for.

Of a thousand uploads the seals are half a gigabyte; of one member of the committee, a hundredth.
"""

from collections.abc import Mapping

from app.domain.errors import ArtifactMissingError
from app.services.checkpoints import Blob
from app.storage.artifacts import Artifacts
from hansa_core.problems import CoreError
from hansa_core.secagg.errors import SealError
from hansa_core.secagg.seals import COMMITMENT_SIZE, SEAL_SIZE, seals_size
from hansa_core.tensors import read_header

_MAGIC = b"hsaseal1"
_COUNT_SIZE = 2  # bytes of a number of neighbours, or of members


class StoredSeals:
    """One upload's file of seals: its commitments, and a member's seals at a time."""

    __slots__ = ("_artifacts", "_blob", "_member", "_members_seals", "_seals_start", "commitments")

    def __init__(
        self, artifacts: Artifacts, blob: Blob, *, neighbours: int, committee: int
    ) -> None:
        """Read the commitments.

        Raises:
            SealError: the file is of another kind, or for another graph or committee.
            ArtifactMissingError, StorageUnavailableError: of the store.
        """
        self._artifacts, self._blob = artifacts, blob
        self._member, self._members_seals = -1, b""
        wanted = _MAGIC + b"".join(
            count.to_bytes(_COUNT_SIZE, "big") for count in (neighbours, committee)
        )
        with artifacts.open(blob.federation_id, blob.digest, read_ahead_bytes=1 << 16) as reader:
            try:
                start = read_header(reader.read_at).size
            except CoreError as error:
                raise SealError(f"the seals are no file of a tensor: {error}") from error
            size = seals_size(neighbours, committee)
            if reader.size - start != size:
                raise SealError(f"the seals have {reader.size - start} bytes, wanted {size}")
            head = bytearray(len(wanted) + (neighbours + 1) * COMMITMENT_SIZE)
            reader.read_at(memoryview(head), start)
        if not head.startswith(wanted):
            raise SealError(
                f"the seals start with {bytes(head[: len(wanted)]).hex()}, wanted {wanted.hex()}: "
                f"those of {neighbours} neighbours for {committee} members"
            )
        self._seals_start = start + len(head)
        self.commitments = tuple(
            bytes(head[at : at + COMMITMENT_SIZE])
            for at in range(len(wanted), len(head), COMMITMENT_SIZE)
        )

    def seal(self, member_index: int, seed_index: int) -> bytes:
        """Return the seal for the committee's member `member_index` (from 0) of one seed."""
        count = len(self.commitments)
        if member_index != self._member:
            row = bytearray(count * SEAL_SIZE)
            name = (self._blob.federation_id, self._blob.digest)
            with self._artifacts.open(*name, read_ahead_bytes=len(row)) as reader:
                reader.read_at(memoryview(row), self._seals_start + member_index * len(row))
            self._member, self._members_seals = member_index, bytes(row)
        return self._members_seals[seed_index * SEAL_SIZE : (seed_index + 1) * SEAL_SIZE]


def open_stored(
    artifacts: Artifacts,
    blobs: Mapping[int, Blob],
    graph: Mapping[int, tuple[int, ...]],
    committee: int,
) -> tuple[dict[int, StoredSeals], dict[int, str]]:
    """Return the uploads' seals by position, and why others cannot be used.

    Raises:
        StorageUnavailableError: the store failed.
    """
    opened: dict[int, StoredSeals] = {}
    unusable: dict[int, str] = {}
    for position, blob in blobs.items():
        try:
            opened[position] = StoredSeals(
                artifacts, blob, neighbours=len(graph[position]), committee=committee
            )
        except (SealError, ArtifactMissingError) as error:
            unusable[position] = str(error)
    return opened, unusable
