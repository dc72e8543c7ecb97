"""Aggregations that are split over workers: the parts of a round, one stage after another.

The rows say what is done; messages only ring. Whoever holds the round's lease looks at its parts:
it plans the next stage, or lets the workers go on, or puts the finished parts together. A part has
a lease of its own, and its result is the same whoever makes it: so a worker that dies costs its
part, and nothing else. hansa_core.aggregation.splits has the arithmetic.
"""

import hashlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any
from uuid import UUID

from app.db import aggregations as rows
from app.db import runs as run_rows
from app.db.models import AggregationPart, Run
from app.domain.errors import ArtifactMissingError, UnusableUpdatesError
from app.domain.ids import new_id
from app.doorbell import AGGREGATE_PART, AGGREGATE_ROUND, STEP_RUN
from app.services.aggregation import Aggregated, AggregationLease, describe, open_job_files
from app.services.blob_sinks import FileSink
from app.services.endings import end_short_round, fail_run
from app.services.secure.summing import take_off_part
from app.services.transactions import Tx
from app.storage.artifacts import Artifacts, chunks
from hansa_core.aggregation.jobs import Sinks, open_job, slot_names, summary, write_heads
from hansa_core.aggregation.splits import (
    MOST_PARTS,
    Answer,
    Stage,
    answer_of_json,
    answer_to_json,
    measure_part,
    next_stage,
    write_part,
)
from hansa_core.layouts import Layout
from hansa_core.problems import CoreError
from hansa_core.states import RoundState

MAX_PART_ATTEMPTS = 5  # workers that may die over one part
SUM_STAGE = -1  # of a secure round: the masks are taken off before anything is combined
CHECKPOINT = ""  # its name among the files of a part; the others are slots
NO_TENSORS = Layout(())  # of a part's file, which is a piece of a file of tensors

Result = Mapping[str, Any]  # of a part: an answer's cells, or the files that were written


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a split aggregation is."""

    parts: int  # wanted of each stage
    done: tuple[tuple[Result, ...], ...]  # of the finished stages, in order
    open: int  # parts of the stage in hand that are not done

    @property
    def answers(self) -> list[Answer]:
        """What is known of the measurements; the last stage's results are files."""
        return [answer_of_json(stage) for stage in self.done if "cells" in stage[0]]

    @property
    def written(self) -> tuple[Result, ...] | None:
        """The parts of the files, once all of them are there."""
        written = [stage for stage in self.done if "files" in stage[0]]
        return written[0] if written and not self.open else None


@dataclass(frozen=True, slots=True)
class PartLease:
    """The right to make one part."""

    part_id: UUID
    token: UUID
    job: AggregationLease
    progress: Progress
    stage: int
    index: int


class PartsLostError(Exception):
    """A finished part's file is not in the store any more, or is another."""


def parts_wanted(lease: AggregationLease, *, part_bytes: int) -> int:
    """Return in how many parts the aggregation is to be made; 1 is not split at all."""
    inputs = sum(update.blob.size for update in lease.updates)
    return min(MOST_PARTS, max(1, -(-inputs // part_bytes)))


def progress_of(tx: Tx, round_id: UUID) -> Progress | None:
    """Return how far the round's parts are; None where there are none."""
    found = [part for part in rows.parts(tx.session, round_id) if part.stage != SUM_STAGE]
    if not found:
        return None
    stages = [list(stage) for _, stage in groupby(found, key=lambda part: part.stage)]
    done = tuple(
        tuple(part.result for part in stage if part.result is not None)
        for stage in stages
        if all(part.result is not None for part in stage)
    )
    still = sum(part.result is None for part in found)
    return Progress(parts=max(part.count for part in found), done=done, open=still)


def plan_stage(lease: AggregationLease, artifacts: Artifacts, progress: Progress) -> Stage:
    """Return what comes after what is done.

    Raises:
        UnusableUpdatesError: the updates cannot be combined.
        StorageUnavailableError: the store failed.
    """
    with ExitStack() as stack:
        job = open_job_files(lease, artifacts, stack)
        strategy = lease.plan.strategy
        try:
            opened = open_job(strategy, job)
            return next_stage(strategy, opened, progress.answers, parts=progress.parts)
        except (CoreError, ArtifactMissingError) as error:
            raise UnusableUpdatesError(str(error)) from error


def open_stage(tx: Tx, lease: AggregationLease, stage: Stage, *, number: int, wanted: int) -> None:
    """Write the parts of a stage, and ring for each of them. Repeating changes nothing."""
    rows.add_parts(
        tx.session,
        [
            AggregationPart(
                id=new_id(), round_id=lease.round_id, stage=number, index=index, count=wanted
            )
            for index in range(stage.parts)
        ],
    )
    ring(tx, lease.round_id)


def ring(tx: Tx, round_id: UUID) -> None:
    """Ring for every part that is not done."""
    for part in rows.parts(tx.session, round_id):
        if part.result is None:
            tx.send(AGGREGATE_PART, part.id)


def let_go(tx: Tx, lease: AggregationLease, *, until: datetime) -> None:
    """Give the round's lease back while others work on its parts; a sweep looks again `until`.

    It counts as no attempt: parts count their own.
    """
    row = run_rows.lock_round(tx.session, lease.round_id)
    if row is None or row.lease_token != lease.token:
        return
    row.lease_token = None
    row.lease_expires_at = until
    row.attempts -= 1


def lease_part(tx: Tx, part_id: UUID, *, now: datetime, duration: timedelta) -> PartLease | None:
    """Take a part, or None: done, held by another worker, or given up with its round."""
    locked = rows.lock_part(tx.session, part_id)
    if locked is None:
        return None
    part, row = locked
    held = part.lease_expires_at is not None and part.lease_expires_at > now
    if part.result is not None or held or row.state != RoundState.AGGREGATING:
        return None
    if part.stage == SUM_STAGE:
        progress: Progress | None = Progress(parts=part.count, done=(), open=0)
    else:
        progress = progress_of(tx, row.id)
    assert progress is not None
    if part.attempts >= MAX_PART_ATTEMPTS:
        tx.send(AGGREGATE_ROUND, row.id)
        return None
    token = new_id()
    part.lease_token = token
    part.lease_expires_at = now + duration
    part.attempts += 1
    run = tx.session.get_one(Run, row.run_id)
    job = describe(tx, run, row, token=token)
    return PartLease(part.id, token, job, progress, part.stage, part.index)


def renew_part(tx: Tx, held: PartLease, *, now: datetime, duration: timedelta) -> bool:
    """Keep the part's lease for another `duration`; False when it was lost."""
    return rows.renew_lease(tx.session, held.part_id, token=held.token, expires_at=now + duration)


def given_up(tx: Tx, round_id: UUID, *, now: datetime) -> str | None:
    """Return why the round's parts will never be done, or None."""
    for part in rows.parts(tx.session, round_id):
        held = part.lease_expires_at is not None and part.lease_expires_at > now
        if part.result is None and part.attempts >= MAX_PART_ATTEMPTS and not held:
            return (
                f"{part.attempts} workers died or timed out over part {part.index + 1} of stage "
                f"{part.stage + 1} of the aggregation"
            )
    return None


def make_part(held: PartLease, artifacts: Artifacts) -> Result:
    """Measure or write one part. No row is touched.

    Raises:
        UnusableUpdatesError: the stored bytes cannot be combined.
        StorageUnavailableError: the store failed.
    """
    if held.stage == SUM_STAGE:
        assert held.job.secure is not None
        part = take_off_part(
            held.job.secure, artifacts, index=held.index, count=held.progress.parts
        )
        return {"summed": part}
    strategy = held.job.plan.strategy
    answers = held.progress.answers[: held.stage]
    with ExitStack() as stack:
        job = open_job_files(held.job, artifacts, stack)
        try:
            opened = open_job(strategy, job)
            stage = next_stage(strategy, opened, answers, parts=held.progress.parts)
            if stage.question is not None:
                return answer_to_json(measure_part(stage, held.index))
            federation_id = held.job.base.federation_id
            files = {
                name: stack.enter_context(FileSink(artifacts, federation_id))
                for name in (CHECKPOINT, *slot_names(strategy))
            }
            slots = {name: file for name, file in files.items() if name != CHECKPOINT}
            sinks = Sinks(files[CHECKPOINT], slots)
            write_part(strategy, opened, answers, stage, held.index, sinks)
        except (CoreError, ArtifactMissingError) as error:
            raise UnusableUpdatesError(str(error)) from error
        return {"files": {name: file.commit(NO_TENSORS).digest for name, file in files.items()}}


def finish_part(tx: Tx, held: PartLease, result: Result) -> bool:
    """Record what a part is; the last of its stage rings for the round. False when overtaken."""
    locked = rows.lock_part(tx.session, held.part_id)
    if locked is None:
        return False
    part, row = locked
    if part.result is not None or row.state != RoundState.AGGREGATING:
        return False
    part.result = dict(result)
    part.lease_token = None
    part.lease_expires_at = None
    tx.session.flush()
    if not rows.count_open(tx.session, row.id):
        if row.lease_token is None:
            row.lease_expires_at = None  # nobody holds it: it only waited for the parts
        tx.send(AGGREGATE_ROUND, row.id)
    return True


def release_part(tx: Tx, held: PartLease, *, not_before: datetime) -> None:
    """Give a part back for a cause that lies outside of it; it counts as no attempt."""
    locked = rows.lock_part(tx.session, held.part_id)
    if locked is not None and locked[0].lease_token == held.token:
        locked[0].lease_token = None
        locked[0].lease_expires_at = not_before
        locked[0].attempts -= 1


def fail_part(tx: Tx, held: PartLease, *, reason: str, now: datetime) -> None:
    """End the round and its run: the same bytes would fail again."""
    run = run_rows.lock_run(tx.session, held.job.run_id)
    row = run_rows.lock_round(tx.session, held.job.round_id)
    if run is None or row is None or row.state != RoundState.AGGREGATING:
        return
    if held.stage != SUM_STAGE:
        fail_run(tx, run, row, reason=reason, now=now)
        return
    end_short_round(tx, run, row, f"the sum cannot be opened: {reason}", now=now)
    tx.send(STEP_RUN, run.id)


def assemble(
    lease: AggregationLease, artifacts: Artifacts, written: Sequence[Result]
) -> Aggregated:
    """Put the files together from their parts. No row is touched.

    Raises:
        PartsLostError: a part's file is gone; the parts have to be made again.
        UnusableUpdatesError, StorageUnavailableError: as `aggregation.aggregate`.
    """
    strategy, federation_id = lease.plan.strategy, lease.base.federation_id
    with ExitStack() as stack:
        job = open_job_files(lease, artifacts, stack)
        files = {
            name: stack.enter_context(FileSink(artifacts, federation_id))
            for name in (CHECKPOINT, *slot_names(strategy))
        }
        slots = {name: file for name, file in files.items() if name != CHECKPOINT}
        sinks = Sinks(files[CHECKPOINT], slots)
        try:
            opened = open_job(strategy, job)
            made = summary(opened, write_heads(strategy, opened, sinks))
        except CoreError as error:
            raise UnusableUpdatesError(str(error)) from error
        for name, file in files.items():
            for part in written:
                _copy(artifacts, federation_id, part["files"][name], file)
        return Aggregated(
            checkpoint=files[CHECKPOINT].commit(made.checkpoint.layout),
            slots={name: slots[name].commit(made.slots[name].layout) for name in slots},
        )


def _copy(artifacts: Artifacts, federation_id: UUID, digest: str, file: FileSink) -> None:
    """Write a part's bytes on. Raises PartsLostError if they are gone, or others."""
    hasher = hashlib.sha256()
    try:
        for chunk in chunks(artifacts, federation_id, digest):
            hasher.update(chunk)
            file(memoryview(chunk))
    except ArtifactMissingError as error:
        raise PartsLostError(str(error)) from error
    if hasher.hexdigest() != digest:
        raise PartsLostError(f"the file of part {digest} has SHA-256 {hasher.hexdigest()}")


def begin_again(tx: Tx, round_id: UUID) -> None:
    """Forget all parts: the next look makes them anew."""
    rows.forget(tx.session, round_id)
    tx.send(AGGREGATE_ROUND, round_id)


def forget(tx: Tx, round_id: UUID) -> list[str]:
    """Drop the rows of a round's parts; return the digests of their files, needed no more."""
    return [
        digest
        for result in rows.forget(tx.session, round_id)
        for files in (result.get("files", {}), result.get("summed", {}))
        for digest in files.values()
    ]
