"""The sum of a secure round: its seeds, the transcript, and the mean delta without masks.

Two steps under the round's lease, each recorded when it is done: the seeds are put together and
their transcript is stored; with it the masks are taken off, by one worker or by several. What comes
of it is stored like one site's update, and the ordinary aggregation goes on from there.
"""

from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from app.domain.errors import ArtifactMissingError, UnusableUpdatesError
from app.services.blob_sinks import FileSink
from app.services.checkpoints import NewBlob
from app.services.secure.groups import neighbours_of
from app.services.secure.seals import open_stored
from app.services.secure.sums import DELTA, Sum, Summed
from app.storage.artifacts import READ_AHEAD_BYTES, Artifacts, chunks
from hansa_core.layouts import Layout
from hansa_core.problems import CoreError
from hansa_core.secagg.errors import ShareError
from hansa_core.secagg.hub import Seals, Seeds, reconstruct, write_transcript
from hansa_core.secagg.messages import (
    MAX_BODY,
    Transcript,
    Upload,
    parse,
)
from hansa_core.secagg.sums import (
    SumJob,
    open_masked,
    segments,
    totals_of,
    write_heads,
    write_means,
)
from hansa_core.signing import decode_base64
from hansa_core.states import RoundKind

NO_TENSORS = Layout(())  # of a transcript, and of a piece of a file


class MoreSharesError(Exception):
    """The shares that came do not give every seed: more of the committee have to be asked."""


def open_seeds(work: Sum, artifacts: Artifacts) -> NewBlob:
    """Put the seeds together and store their transcript. No row is touched.

    Raises:
        MoreSharesError: of the shares that came, too many are wrong.
        UnusableUpdatesError: a stored file is gone or damaged.
        StorageUnavailableError: the store failed; a retry may do better.
    """
    group = work.bound.group
    seals = {update.position: update.seals for update in work.updates}
    try:
        opened, unusable = open_stored(
            artifacts, seals, neighbours_of(work.bound), len(group.committee)
        )
        if unusable:
            raise UnusableUpdatesError("; ".join(unusable.values()))
        seeds = _reconstruct(work, opened)
    except ShareError as error:
        raise MoreSharesError(str(error)) from error
    except (CoreError, ArtifactMissingError) as error:
        raise UnusableUpdatesError(str(error)) from error
    transcript = write_transcript(
        work.bound.header,
        work.bound.ranges,
        work.bound.survivors,
        work.signatures,
        [
            Upload(
                member=update.position,
                manifest=update.manifest,
                masked=update.masked.digest,
                seals=update.seals.digest,
            )
            for update in work.updates
        ],
        seeds,
    )
    with FileSink(artifacts, work.federation_id) as file:
        file(memoryview(transcript.body()))
        return file.commit(NO_TENSORS)


def take_off(work: Sum, artifacts: Artifacts) -> Summed:
    """Take the masks off the whole sum and store the mean delta. No row is touched.

    Raises:
        UnusableUpdatesError: the sum is none that such updates add up to, or a file is gone.
        StorageUnavailableError: the store failed; a retry may do better.
    """
    return _store(work, artifacts, None)


def take_off_part(work: Sum, artifacts: Artifacts, *, index: int, count: int) -> dict[str, str]:
    """Take the masks off one of `count` shares of the sum; return its files' digests by name.

    Errors are those of `take_off`.
    """
    wanted = segments(work.vector)
    start, stop = (len(wanted) * at // count for at in (index, index + 1))
    with ExitStack() as stack:
        files = _open_files(work, artifacts, stack)
        with _refusing():
            job = _open_job(work, artifacts, stack)
            write_means(job, totals_of(job), wanted[start:stop], _sinks(files))
        return {name: file.commit(NO_TENSORS).digest for name, file in files.items()}


def put_together(work: Sum, artifacts: Artifacts, parts: Sequence[Mapping[str, str]]) -> Summed:
    """Put the files of a sum together from those of its parts. Errors are those of `take_off`.

    Raises:
        ArtifactMissingError: a part's file is gone.
    """
    return _store(work, artifacts, parts)


def parts_wanted(work: Sum, *, part_bytes: int) -> int:
    """Return in how many parts the masks are to be taken off; 1 is not split at all."""
    return max(1, min(-(-work.size // part_bytes), len(segments(work.vector))))


def _reconstruct(work: Sum, seals: Seals) -> Seeds:
    """Return the seeds that the openings give.

    Wrong shares are found where two more came than are needed for each; of one, what is left when
    it is left out shows it as well: every seed has its commitment. Raises ShareError.
    """
    group, header, survivors = work.bound.group, work.bound.header, work.bound.survivors
    try:
        return reconstruct(group, header, survivors, work.openings, seals)
    except ShareError as error:
        if len(work.openings) <= group.parameters.threshold:
            raise
        first = error
    openers = tuple(it.member for it in work.openings)
    for suspect in openers:
        others = [it for it in work.openings if it.member != suspect]
        try:
            seeds = reconstruct(group, header, survivors, others, seals)
        except ShareError:
            continue
        wrong = tuple(sorted({*seeds.wrong, suspect}))
        return replace(seeds, openers=openers, wrong=wrong)
    raise first


def _store(work: Sum, artifacts: Artifacts, parts: Sequence[Mapping[str, str]] | None) -> Summed:
    with ExitStack() as stack:
        with _refusing():
            job = _open_job(work, artifacts, stack)
            totals = totals_of(job)
        if work.kind is RoundKind.EVALUATE:
            return Summed(totals, {})
        files = _open_files(work, artifacts, stack)
        write_heads(work.vector, _sinks(files))
        if parts is None:
            with _refusing():
                write_means(job, totals, segments(work.vector), _sinks(files))
        for part in parts or ():
            for name, file in files.items():
                for chunk in chunks(artifacts, work.federation_id, part[name]):
                    file(memoryview(chunk))
        layouts = {DELTA: work.vector.uploaded, **work.vector.parts}
        return Summed(totals, {name: file.commit(layouts[name]) for name, file in files.items()})


def _open_job(work: Sum, artifacts: Artifacts, stack: ExitStack) -> SumJob:
    """Open everything that the sum reads, until the stack is closed."""
    read_ahead = READ_AHEAD_BYTES // max(1, len(work.updates))
    files = [
        open_masked(
            stack.enter_context(
                artifacts.open(
                    work.federation_id, update.masked.digest, read_ahead_bytes=read_ahead
                )
            ).read_at,
            work.vector,
        )
        for update in work.updates
    ]
    return SumJob(
        vector=work.vector,
        terms=work.terms,
        ranges=work.bound.ranges,
        files=tuple(files),
        seeds=_read_seeds(work, artifacts),
    )


def _read_seeds(work: Sum, artifacts: Artifacts) -> Seeds:
    """Return the seeds of the stored transcript."""
    assert work.transcript is not None
    if work.transcript.size > MAX_BODY:
        raise UnusableUpdatesError(f"the transcript has {work.transcript.size} bytes")
    name = (work.federation_id, work.transcript.digest)
    body = b"".join(chunks(artifacts, *name))
    transcript = parse(Transcript, body, digest=work.transcript.digest)
    return Seeds(
        own=tuple(decode_base64(seed) for seed in transcript.own),
        pairs=tuple(
            (pair.survivor, pair.dropped, decode_base64(pair.seed)) for pair in transcript.pairs
        ),
        openers=transcript.openers,
        wrong=transcript.wrong,
    )


def _open_files(work: Sum, artifacts: Artifacts, stack: ExitStack) -> dict[str, FileSink]:
    return {
        name: stack.enter_context(FileSink(artifacts, work.federation_id))
        for name in (DELTA, *work.vector.parts)
    }


def _sinks(files: Mapping[str, FileSink]) -> dict[str | None, FileSink]:
    return {name or None: file for name, file in files.items()}


@contextmanager
def _refusing() -> Generator[None]:
    """Turn what the kernel refuses, and files that are gone, into one error."""
    try:
        yield
    except (CoreError, ArtifactMissingError) as error:
        raise UnusableUpdatesError(str(error)) from error
