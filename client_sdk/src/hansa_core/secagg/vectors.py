"""Where everything lies in the vector of words that one update is, and that their sum is.

    packed floats | wide integers | statistics | totals | scalars | metrics

docs/secure-aggregation.md, "What is summed". Floats are those that are uploaded, in canonical
order, then those of the strategy's part, called "control/" and their name. Statistics are two words
per float tensor: the sum of squares and the number of clipped values. Totals are three words.
Scalars and metrics are two each, value and weight; a metric is called "train/" or "eval/" and its
name. An evaluation round uploads no tensors: its vectors are totals and metrics.

Invariant: a layout depends on what it is made of alone, so site and hub find the same one.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from hansa_core.aggregation.inputs import part_layout
from hansa_core.inspection import describe_mismatch
from hansa_core.layouts import Layout, TensorShape
from hansa_core.local_work import CONTROL
from hansa_core.secagg.errors import SecaggError
from hansa_core.secagg.packing import BLOCK, Packing, Words, ceil_log2, check_words

TRAIN = "train/"  # before the name of a metric of local training
EVALUATION = "eval/"  # before that of a metric on held-out data

TOTALS = 3  # words: weight, updates, updates that were clipped as a whole
FORMAT = "hansa-secagg-vector/1"

INTEGER_LIMIT = 2**30  # magnitude of a weighted integer; more is clipped
INTEGER_FRACTION = 20  # bits behind the point
VALUE_LIMIT = 2**20  # magnitude of a scalar or a metric
VALUE_FRACTION = 32  # bits behind the point
LEAST_RANGE = 2.0**-100  # of a tensor; any less and scaled values would leave float64
_SUM_BITS = 62  # magnitude of a sum of fixed-point numbers


@dataclass(frozen=True, slots=True)
class Slot:
    """One tensor of a vector."""

    name: str  # in the vector: that of the tensor, after its part's
    tensor: TensorShape
    part: str | None  # None: uploaded itself
    index: int  # among the vector's floats, or its integers
    start: int  # first element among the packed floats, or the wide integers


@dataclass(frozen=True, slots=True)
class Piece:
    """Neighbouring elements of one tensor: [start, start + count)."""

    slot: Slot
    start: int
    count: int


@dataclass(frozen=True, slots=True)
class VectorLayout:
    """The vector of an update of `uploaded` with these parts, scalars and metrics.

    Raises SecaggError for a part other than SCAFFOLD's control laid out like the floats uploaded,
    and for a scalar or a metric named twice.
    """

    uploaded: Layout
    parts: Mapping[str, Layout]
    scalars: tuple[str, ...]
    train: tuple[str, ...]
    evaluation: tuple[str, ...]
    packing: Packing
    floats: tuple[Slot, ...] = field(init=False, repr=False, compare=False)
    integers: tuple[Slot, ...] = field(init=False, repr=False, compare=False)
    elements: int = field(init=False, compare=False)  # packed floats
    integers_at: int = field(init=False, compare=False)  # offsets in words; floats are at 0
    statistics_at: int = field(init=False, compare=False)
    totals_at: int = field(init=False, compare=False)
    scalars_at: int = field(init=False, compare=False)
    metrics_at: int = field(init=False, compare=False)
    words: int = field(init=False, compare=False)  # in all

    def __post_init__(self) -> None:
        for names in (self.scalars, self.metrics):
            if len(set(names)) != len(names):
                raise SecaggError(f"a vector has {list(names)}, wanted each name once")
        self._check_parts()
        floats = [(None, it) for it in self.uploaded.tensors if it.dtype.is_float]
        of_parts = [(name, it) for name, part in self.parts.items() for it in part.tensors]
        floats_s = _slots([*floats, *of_parts])
        integers_s = _slots([(None, it) for it in self.uploaded.tensors if not it.dtype.is_float])
        elements = sum(slot.tensor.count for slot in floats_s)
        integers_at = self.packing.words(elements)
        statistics_at = integers_at + sum(slot.tensor.count for slot in integers_s)
        totals_at = statistics_at + 2 * len(floats_s)
        scalars_at = totals_at + TOTALS
        metrics_at = scalars_at + 2 * len(self.scalars)
        for name, value in (
            ("floats", floats_s),
            ("integers", integers_s),
            ("elements", elements),
            ("integers_at", integers_at),
            ("statistics_at", statistics_at),
            ("totals_at", totals_at),
            ("scalars_at", scalars_at),
            ("metrics_at", metrics_at),
            ("words", metrics_at + 2 * len(self.metrics)),
        ):
            object.__setattr__(self, name, value)

    @property
    def float_tensors(self) -> tuple[str, ...]:
        """The names of the float tensors, in the order of their ranges and statistics."""
        return tuple(slot.name for slot in self.floats)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The names of the metrics, in order."""
        train = tuple(TRAIN + name for name in self.train)
        return train + tuple(EVALUATION + name for name in self.evaluation)

    @property
    def integer_fraction(self) -> int:
        """Bits behind the point of a wide integer: 20, fewer for more than 4096 sites."""
        return self._fraction(INTEGER_FRACTION, INTEGER_LIMIT)

    @property
    def value_fraction(self) -> int:
        """Bits behind the point of a scalar or a metric: 32, fewer for more than 1024 sites."""
        return self._fraction(VALUE_FRACTION, VALUE_LIMIT)

    def square_fraction(self, slot: Slot) -> int:
        """Bits behind the point of a tensor's sum of squares, each at most 1."""
        return _SUM_BITS - self.packing.site_bits - ceil_log2(max(slot.tensor.count, 1))

    def float_pieces(self, begin: int, end: int) -> Iterator[Piece]:
        """Yield what packed elements [begin, end) are, in order."""
        return _pieces(self.floats, begin, end)

    def integer_pieces(self, begin: int, end: int) -> Iterator[Piece]:
        """Yield what wide integers [begin, end) are, in order."""
        return _pieces(self.integers, begin, end)

    def tail_of(self, words_w: Words) -> Words:
        """Return the words behind the tensors of a whole vector: statistics and all after them."""
        check_words(words_w, self.words, "the vector")
        return words_w[self.statistics_at :]

    def to_json(self) -> dict[str, object]:
        """Return all that decides where anything lies, as plain JSON."""
        return {
            "format": FORMAT,
            "lanes": self.packing.lanes,
            "sites": self.packing.sites,
            "block": BLOCK,
            "words": self.words,
            "uploaded": self.uploaded.to_json(),
            "parts": {name: part.to_json() for name, part in self.parts.items()},
            "scalars": list(self.scalars),
            "metrics": list(self.metrics),
        }

    def _check_parts(self) -> None:
        wanted = part_layout(self.uploaded)
        for name, part in self.parts.items():
            if name != CONTROL:
                raise SecaggError(f"an update has the part {name!r}, wanted {CONTROL!r} or none")
            if part != wanted:
                raise SecaggError(f"part {name!r}: {describe_mismatch(part, wanted)}")

    def _fraction(self, most: int, limit: int) -> int:
        return min(most, _SUM_BITS - ceil_log2(limit) - self.packing.site_bits)


def vector_layout(
    uploaded: Layout,
    parts: Mapping[str, Layout],
    scalars: Sequence[str],
    train: Sequence[str],
    evaluation: Sequence[str],
    packing: Packing,
) -> VectorLayout:
    """Return the layout of an update's vector. Raises SecaggError as VectorLayout does."""
    return VectorLayout(
        uploaded, dict(parts), tuple(map(str, scalars)), tuple(train), tuple(evaluation), packing
    )


def check_ranges(layout: VectorLayout, ranges: Sequence[float]) -> None:
    """Raise SecaggError unless there is one usable range per float tensor."""
    if len(ranges) != len(layout.floats):
        raise SecaggError(
            f"there are {len(ranges)} ranges, wanted {len(layout.floats)}: one per float tensor"
        )
    for slot, reach in zip(layout.floats, ranges, strict=True):
        if not LEAST_RANGE <= reach <= 1 / LEAST_RANGE:
            raise SecaggError(
                f"the range of {slot.name!r} is {reach!r}, "
                f"wanted {LEAST_RANGE:g} to {1 / LEAST_RANGE:g}"
            )


def _slots(tensors: Sequence[tuple[str | None, TensorShape]]) -> tuple[Slot, ...]:
    slots: list[Slot] = []
    start = 0
    for part, tensor in tensors:
        name = tensor.name if part is None else f"{part}/{tensor.name}"
        slots.append(Slot(name, tensor, part, len(slots), start))
        start += tensor.count
    return tuple(slots)


def _pieces(slots: Sequence[Slot], begin: int, end: int) -> Iterator[Piece]:
    which = bisect_right(slots, begin, key=lambda slot: slot.start) - 1
    while begin < end:
        slot = slots[which]
        stop = min(end, slot.start + slot.tensor.count)
        if begin < stop:
            yield Piece(slot, begin - slot.start, stop - begin)
            begin = stop
        which += 1
