"""What is known of a secure round's sum, read before a worker opens it and written after it did."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.db import artifacts as artifact_rows
from app.db import secure as rows
from app.db.models import Round, Run
from app.services.checkpoints import Blob, NewBlob, record_artifact
from app.services.secure.groups import Bound, bound_of, terms_of, vector_of
from app.services.secure.opening import openings_of, signatures_of
from app.services.transactions import Tx
from hansa_core.plans import RunPlan
from hansa_core.secagg.decoding import Totals
from hansa_core.secagg.messages import Opening, SurvivorSignature
from hansa_core.secagg.plans import Terms
from hansa_core.secagg.ranges import next_ranges
from hansa_core.secagg.rosters import SEALS
from hansa_core.secagg.vectors import VectorLayout
from hansa_core.states import RoundKind

DELTA = ""  # its name among the files of a sum; the others are parts


@dataclass(frozen=True, slots=True)
class SurvivingUpdate:
    """An update that the sum is of, where it is stored."""

    position: int
    manifest: str  # SHA-256 of the signed bytes
    masked: Blob
    seals: Blob


@dataclass(frozen=True, slots=True)
class Sum:
    """All that it takes to open one round's sum."""

    bound: Bound
    terms: Terms
    kind: RoundKind
    vector: VectorLayout
    updates: tuple[SurvivingUpdate, ...]  # by position
    signatures: tuple[SurvivorSignature, ...]
    openings: tuple[Opening, ...]
    transcript: Blob | None  # None: the seeds are not put together yet

    @property
    def federation_id(self) -> UUID:
        """Whose updates they are."""
        return self.bound.row.federation_id

    @property
    def size(self) -> int:
        """Bytes of the masked words."""
        return sum(update.masked.size for update in self.updates)


@dataclass(frozen=True, slots=True)
class Summed:
    """A sum without masks, as it is stored."""

    totals: Totals
    files: Mapping[str, NewBlob]  # the mean delta, and the means of parts; none of an evaluation


@dataclass(frozen=True, slots=True)
class SecureMean:
    """The mean of a round's updates, as the ordinary aggregation takes it."""

    delta: Blob
    parts: Mapping[str, Blob]
    survivors: int  # whose mean it is


def describe(tx: Tx, run: Run, row: Round, plan: RunPlan) -> Sum | None:
    """Return what a round's sum takes; None: the round is not secure, or has its sum."""
    bound = bound_of(tx, row.id)
    if bound is None or bound.row.totals is not None:
        return None
    kind = RoundKind(row.kind)
    alive = set(bound.survivors)
    updates: list[SurvivingUpdate] = []
    for it in rows.uploads(tx.session, row.id, SEALS):
        position = bound.position(it.site_id)
        if position in alive:
            assert position is not None
            updates.append(
                SurvivingUpdate(
                    position=position,
                    manifest=hashlib.sha256(it.manifest.encode()).hexdigest(),
                    masked=Blob(run.federation_id, it.digest, it.size),
                    seals=Blob(run.federation_id, it.seals, it.seals_size),
                )
            )
    return Sum(
        bound=bound,
        terms=terms_of(plan),
        kind=kind,
        vector=vector_of(tx, run, plan, sites=len(bound.header.participants), kind=kind),
        updates=tuple(sorted(updates, key=lambda update: update.position)),
        signatures=tuple(signatures_of(tx, bound)),
        openings=tuple(openings_of(tx, bound)),
        transcript=_blob(tx, run.federation_id, bound.row.transcript),
    )


def mean_of(tx: Tx, row: Round) -> SecureMean | None:
    """Return the stored mean of a round that has its sum; None: the round has none."""
    bound = bound_of(tx, row.id)
    if bound is None:
        return None
    federation_id = bound.row.federation_id
    delta = _blob(tx, federation_id, bound.row.summed)
    if delta is None:
        return None
    parts = {
        name: blob
        for name, digest in bound.row.summed_parts.items()
        if (blob := _blob(tx, federation_id, digest)) is not None
    }
    return SecureMean(delta, parts, len(bound.survivors))


def record_transcript(tx: Tx, row: Round, made: NewBlob, *, now: datetime) -> None:
    """Record the transcript of a round that the caller holds the lease of.

    Raises:
        ArtifactPurgedError: the same bytes were once deleted.
    """
    bound = bound_of(tx, row.id)
    assert bound is not None
    record_artifact(tx, bound.row.federation_id, made, now=now)
    bound.row.transcript = made.digest
    tx.session.flush()


def record_sum(tx: Tx, row: Round, work: Sum, made: Summed, *, now: datetime) -> None:
    """Record the sum of a round that the caller holds the lease of.

    Raises:
        ArtifactPurgedError: the same bytes were once deleted.
    """
    bound = bound_of(tx, row.id)
    assert bound is not None
    for blob in made.files.values():
        record_artifact(tx, bound.row.federation_id, blob, now=now)
    digests = {name: blob.digest for name, blob in made.files.items()}
    bound.row.summed = digests.pop(DELTA, None)
    bound.row.summed_parts = digests
    bound.row.totals = _totals_to_json(work, made.totals)
    tx.session.flush()


def _blob(tx: Tx, federation_id: UUID, digest: str | None) -> Blob | None:
    if digest is None:
        return None
    sizes = artifact_rows.sizes(tx.session, federation_id, [digest])
    return Blob(federation_id, digest, sizes[digest])


def _totals_to_json(work: Sum, totals: Totals) -> dict[str, Any]:
    """Return what is kept of a sum: all of it is public, and the next ranges follow from it."""
    kept: dict[str, Any] = {
        "weight": totals.weight,
        "updates": totals.updates,
        "clipped_updates": totals.clipped_updates,
        "scalars": dict(totals.scalars),
        "metrics": {
            name: {"mean": it.mean, "weight": it.weight} for name, it in totals.metrics.items()
        },
    }
    if work.kind is RoundKind.TRAIN:
        quantiser = work.terms.quantiser
        ranges = next_ranges(work.vector, quantiser, work.bound.ranges, totals)
        kept["ranges"] = list(ranges)
    return kept
