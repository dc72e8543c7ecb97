"""One aggregation: from a base checkpoint, a round's updates and the server's slots to the next.

The tensor groups of the run are combined one by one, each by the strategy's rule over the updates
that hold it; one writer puts them together in canonical order.

Invariants
- The bytes written depend on the job's content and the strategy, and on nothing else: not on
  arrival order, site ids, tile size, threads or the machine.
- Memory is the rule's buffers, whatever the model and the number of sites.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from hansa_core.aggregation.inputs import (
    Contribution,
    DeltaFile,
    Inputs,
    Section,
    SectionFile,
    Source,
    holders,
    open_tensors,
    open_update,
    ordered,
    sections_of,
    slot_layout,
    slot_tensors,
)
from hansa_core.aggregation.outputs import TILE_BYTES, Combine, Span, Stepping, TileWriter
from hansa_core.aggregation.sums import WeightedSum
from hansa_core.codecs.files import EncodedFile
from hansa_core.codecs.plans import CodecPlan, ExactPlan
from hansa_core.layouts import Layout
from hansa_core.problems import AggregationError
from hansa_core.strategies.base import Strategy
from hansa_core.tensor_groups import Partition, TensorsPlan, partition
from hansa_core.tensors import Sink, encode_header, read_header

STATE_KEY = "hansa.state"  # in a slot's metadata: which strategy's
SLOT_KEY = "hansa.slot"  # in a slot's metadata: its name


@dataclass(frozen=True, slots=True)
class Job:
    """All that one aggregation reads."""

    base: Source
    contributions: Sequence[Contribution]
    slots: Mapping[str, Source] = field(default_factory=dict[str, Source])  # all of them, or none
    population: int | None = None  # sites that the round could have asked
    participants: int | None = None  # whose updates these are; None: as many as contributions
    tensors: TensorsPlan = field(default_factory=TensorsPlan)
    codec: CodecPlan = field(default_factory=ExactPlan)


@dataclass(frozen=True, slots=True)
class Sinks:
    """Where an aggregation writes its files."""

    checkpoint: Sink
    slots: Mapping[str, Sink] = field(default_factory=dict[str, Sink])  # those of the strategy


@dataclass(frozen=True, slots=True)
class StoredFile:
    """A file that an aggregation has written."""

    layout: Layout
    size: int  # bytes


@dataclass(frozen=True, slots=True)
class AggregateSummary:
    base_digest: str
    contributions: tuple[tuple[str, int], ...]  # (digest, weight), in the order they were taken
    checkpoint: StoredFile
    slots: Mapping[str, StoredFile]


@dataclass(frozen=True, slots=True)
class OpenJob:
    """A job whose headers have been read and checked."""

    base: Source
    partition: Partition
    contributions: tuple[Contribution, ...]
    sections: tuple[tuple[str | None, Section], ...]  # with their group; all of the model
    base_file: SectionFile
    groups: Mapping[str, Inputs]  # those that somebody holds
    slot_sections: tuple[Section, ...]  # those that slots have: floats that somebody trains
    slots: Mapping[str, DeltaFile]
    participation: float


def slot_names(strategy: Strategy) -> tuple[str, ...]:
    """Return the slots that go with every checkpoint of the strategy."""
    step = strategy.server_step()
    return () if step is None else tuple(step.slots)


def aggregate(
    strategy: Strategy, job: Job, sinks: Sinks, *, tile_bytes: int = TILE_BYTES
) -> AggregateSummary:
    """Write the next checkpoint and the strategy's slots, complete canonical files.

    Sinks use or copy the bytes before they return. `tile_bytes` trades memory for fewer reads; it
    does not change the result.

    Raises AggregationError without contributions, or too few for the rule; UpdateRefusedError for
    an update that cannot be taken, or a result that is not finite; TensorFormatError for a file
    that is none; and what reading and the sinks raise. What the sinks have is then to be discarded.
    """
    opened = open_job(strategy, job)
    heads = write_heads(strategy, opened, sinks)
    write_spans(strategy, opened, sinks, whole(opened), tile_bytes=tile_bytes)
    return summary(opened, heads)


def open_job(strategy: Strategy, job: Job) -> OpenJob:
    """Read and check all headers. Errors are those of `aggregate`."""
    contributions = ordered(job.contributions)
    header = read_header(job.base.read)
    parts = partition(header.layout, job.tensors)
    sections = sections_of(parts)
    groups: dict[str, Inputs] = {}
    for group in parts.groups:
        held = holders(contributions, group.name)
        mine = tuple(section for name, section in sections if name == group.name)
        if held and mine:
            files = tuple(_open(job, parts, it, mine) for it in held)
            groups[group.name] = Inputs(job.base, held, mine, files)
    wanted = slot_names(strategy)
    if job.slots and set(job.slots) != set(wanted):
        raise AggregationError(
            f"the base has the slots {', '.join(sorted(job.slots))}, "
            f"{strategy.name} has {', '.join(sorted(wanted)) or 'none'}"
        )
    floats = _slot_sections(sections)
    return OpenJob(
        base=job.base,
        partition=parts,
        contributions=contributions,
        sections=sections,
        base_file=SectionFile(header, [section for _, section in sections], job.base.read),
        groups=groups,
        slot_sections=floats,
        slots={name: open_tensors(it, floats) for name, it in job.slots.items()},
        participation=_participation(strategy, job),
    )


def write_heads(strategy: Strategy, opened: OpenJob, sinks: Sinks) -> dict[str | None, int]:
    """Write every file's header; return its bytes by slot, None being the checkpoint."""
    head = encode_header(opened.partition.layout)
    sinks.checkpoint(memoryview(head))
    sizes: dict[str | None, int] = {None: len(head)}
    tensors = slot_tensors(opened.slot_sections)
    for name in slot_names(strategy):
        metadata = {STATE_KEY: strategy.state_kind, SLOT_KEY: name}
        head = encode_header(Layout(tensors), metadata, order=tensors)
        sinks.slots[name](memoryview(head))
        sizes[name] = len(head)
    return sizes


def whole(opened: OpenJob) -> list[tuple[Section, int, int]]:
    """Return the model as one span per section: (section, start, stop)."""
    return [(section, 0, section.count) for _, section in opened.sections]


def write_spans(
    strategy: Strategy,
    opened: OpenJob,
    sinks: Sinks,
    spans: Sequence[tuple[Section, int, int]],
    *,
    tile_bytes: int = TILE_BYTES,
) -> None:
    """Write these elements of all files, without the headers. Errors are those of `aggregate`."""
    combines = {
        name: strategy.combine(inputs, tile_bytes=tile_bytes)
        for name, inputs in opened.groups.items()
    }
    group_of = {section.index: group for group, section in opened.sections}
    writer = TileWriter(
        opened.base_file,
        _stepping(strategy, opened, tile_bytes),
        sinks.checkpoint,
        sinks.slots,
        tile_bytes=tile_bytes,
    )
    for section, start, stop in spans:
        group = group_of[section.index]
        combine = None if group is None else combines.get(group)
        span = Span(section, start, stop, combine)
        writer.write(span)
        if combine is None and group is not None:  # trained in the run, held by nobody this time
            writer.write_slots(span)


def summary(opened: OpenJob, heads: Mapping[str | None, int]) -> AggregateSummary:
    """Return what was written after headers of these sizes."""
    layout = opened.partition.layout
    slots = slot_layout(opened.slot_sections)
    return AggregateSummary(
        base_digest=opened.base.digest,
        contributions=tuple((it.digest, it.weight) for it in opened.contributions),
        checkpoint=StoredFile(layout, heads[None] + layout.size),
        slots={
            name: StoredFile(slots, size + slots.size)
            for name, size in heads.items()
            if name is not None
        },
    )


def _slot_sections(sections: Sequence[tuple[str | None, Section]]) -> tuple[Section, ...]:
    return tuple(it for group, it in sections if group is not None and it.dtype.is_float)


def _open(
    job: Job,
    parts: Partition,
    contribution: Contribution,
    sections: Sequence[Section],
) -> DeltaFile:
    layout = parts.upload_layout(contribution.groups)
    if isinstance(job.codec, ExactPlan):
        return open_update(job.base, contribution, layout, sections)
    return EncodedFile(contribution.read, layout, job.codec)


def _participation(strategy: Strategy, job: Job) -> float:
    if not strategy.counts_population:
        return 1.0
    participants = job.participants or len(job.contributions)
    if job.population is None or job.population < participants:
        raise AggregationError(
            f"{strategy.name} has to know how many sites there are: got population "
            f"{job.population}, wanted {participants} or more"
        )
    return participants / job.population


def _stepping(strategy: Strategy, opened: OpenJob, tile_bytes: int) -> Stepping | None:
    step = strategy.server_step()
    if step is None:
        return None
    parts: dict[str, Combine] = {}
    for name in step.parts:
        files = [
            (inputs, inputs.part(name, [it for it in inputs.sections if it.dtype.is_float]))
            for inputs in opened.groups.values()
        ]
        if len(files) != 1:
            raise AggregationError(
                f"{strategy.name} cannot combine several tensor groups: got {len(files)}"
            )
        inputs = files[0][1]
        count = len(inputs.files)
        parts[name] = WeightedSum(inputs, [1.0] * count, float(count), tile_bytes=tile_bytes)
    return Stepping(step, opened.slots, parts, opened.participation)
