"""One aggregation in parts, made on many machines from ranges of the same files, to the same bits.

It goes in stages. A rule that has to measure whole updates before it can combine them (lengths,
distances) asks; each question is a stage, whose parts are ranges of cells (distances.py). When all
are answered, the last stage writes: its parts are ranges of elements, and the parts of each file,
one after the other behind its header, are the file that one worker alone would have written.

Nothing but the answers is kept between stages: whoever works on a part goes through the rule again
from the beginning, and is given the answers so far. So a part is the same whoever makes it and how
often, and may be made again at any time.
"""

import base64
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hansa_core.aggregation.distances import cell_count
from hansa_core.aggregation.inputs import Inputs, Measurement, Section
from hansa_core.aggregation.jobs import OpenJob, Sinks, write_spans
from hansa_core.aggregation.outputs import TILE_BYTES
from hansa_core.problems import AggregationError
from hansa_core.strategies.base import Strategy

ALIGNMENT = 2**17  # elements: ranges begin at multiples, so that tiles are whole
MOST_PARTS = 1000

Answer = Sequence[NDArray[np.float64]]  # a measurement's cells, in order


class Unanswered(Exception):  # noqa: N818 -- it is a question, no error
    """A rule asks for a measurement that is not known yet."""

    def __init__(self, inputs: Inputs, measurement: Measurement) -> None:
        super().__init__(measurement.kind)
        self.inputs = inputs
        self.measurement = measurement


class Answers:
    """Gives rules the answers so far, in the order in which they ask; then raises Unanswered."""

    def __init__(self, known: Sequence[Answer]) -> None:
        self._known = iter(known)

    def __call__(self, inputs: Inputs, measurement: Measurement) -> Iterable[NDArray[np.float64]]:
        answer = next(self._known, None)
        if answer is None:
            raise Unanswered(inputs, measurement)
        return answer


@dataclass(frozen=True, slots=True)
class Stage:
    """What is to be done next, in how many parts."""

    question: Unanswered | None  # None: the files are written
    units: int  # cells, or ALIGNMENT elements
    parts: int

    def units_of(self, part: int) -> range:
        """Return the units of one part; all parts are as even as may be."""
        start, stop = (self.units * at // self.parts for at in (part, part + 1))
        return range(start, stop)


def next_stage(
    strategy: Strategy, opened: OpenJob, answers: Sequence[Answer], *, parts: int
) -> Stage:
    """Return what comes after these answers, in at most `parts` parts.

    Errors are those of `jobs.aggregate`.
    """
    if not 1 <= parts <= MOST_PARTS:
        raise AggregationError(f"parts is {parts}, wanted 1 to {MOST_PARTS}")
    try:
        for inputs in _answered(opened, answers).groups.values():
            strategy.combine(inputs, tile_bytes=TILE_BYTES)
    except Unanswered as question:
        units = max(1, cell_count(question.inputs))
        return Stage(question, units, min(parts, units))
    units = max(1, math.ceil(opened.partition.layout.parameters / ALIGNMENT))
    return Stage(None, units, min(parts, units))


def measure_part(stage: Stage, part: int) -> Answer:
    """Return the cells of one part of a stage that measures. Raises ValueError for the last."""
    question = stage.question
    if question is None:
        raise ValueError("the last stage writes")
    return list(question.measurement.cells(question.inputs, stage.units_of(part)))


def write_part(
    strategy: Strategy,
    opened: OpenJob,
    answers: Sequence[Answer],
    stage: Stage,
    part: int,
    sinks: Sinks,
) -> None:
    """Write one part of the files, without their headers. Errors are those of `jobs.aggregate`."""
    units = stage.units_of(part)
    spans = _spans(opened, units.start * ALIGNMENT, units.stop * ALIGNMENT)
    write_spans(strategy, _answered(opened, answers), sinks, list(spans))


def answer_to_json(answer: Answer) -> dict[str, Any]:
    """Return an answer as JSON: the bytes of little-endian float64 in base64, and their shape."""
    return {
        "shape": list(answer[0].shape) if answer else [],
        "cells": [base64.b64encode(cell.astype("<f8").tobytes()).decode() for cell in answer],
    }


def answer_of_json(parts: Iterable[Mapping[str, Any]]) -> Answer:
    """Return what `answer_to_json` made of all parts of a measurement, in order."""
    return [
        np.frombuffer(base64.b64decode(cell), "<f8").reshape(part["shape"])
        for part in parts
        for cell in part["cells"]
    ]


def _answered(opened: OpenJob, answers: Sequence[Answer]) -> OpenJob:
    """Return the job whose rules are answered from what is known."""
    known = Answers(answers)
    groups = {name: replace(it, measured=known) for name, it in opened.groups.items()}
    return replace(opened, groups=groups)


def _spans(opened: OpenJob, start: int, stop: int) -> Iterator[tuple[Section, int, int]]:
    """Yield the model's elements from `start` to `stop`, numbered through all sections."""
    first = 0
    for _, section in opened.sections:
        begin, end = max(start, first), min(stop, first + section.count)
        if begin < end:
            yield section, begin - first, end - first
        first += section.count
