"""A task of a secure run: what is checked before training, and how the update is masked after it.

Invariants:
- nothing is masked for a round that this site cannot check: its roster confirmed here, its header
  in agreement with all that the task says;
- files and answer are flushed to disk, then that the round is used, then anything is sent: a kill
  at any point leaves these bytes, or none that anybody has seen;
- the words of an update are made, masked and written in one array.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from secrets import token_bytes
from typing import Any
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from hansa.errors import LocalError
from hansa.journal import Answer, Journal, StoredTensors
from hansa.secure.journal import Masked, SecureJournal, require_unused
from hansa.secure.rosters import Rosters
from hansa_core import wire
from hansa_core.codecs.plans import ExactPlan
from hansa_core.layouts import Layout
from hansa_core.secagg.encoding import SEED_SIZE, encode
from hansa_core.secagg.errors import SecaggRefusedError
from hansa_core.secagg.messages import Header, ranges_digest
from hansa_core.secagg.plans import Terms
from hansa_core.secagg.rosters import (
    MASKED,
    SEALS,
    Group,
    least_survivors_of,
    vector_layout,
)
from hansa_core.secagg.site import OwnKeys, mask
from hansa_core.secagg.terms import Weighing
from hansa_core.secagg.vectors import EVALUATION, TRAIN
from hansa_core.states import RoundKind
from hansa_core.tensors import write_tensors

Tensors = Mapping[str, NDArray[Any]]
Counted = tuple[Mapping[str, float], int]  # metrics by name, and the examples that they are of


@dataclass(frozen=True, slots=True)
class SecureTask:
    """A task whose round this site has checked."""

    header: Header
    digest: str  # of the header
    ranges: tuple[float, ...]
    group: Group
    own: OwnKeys

    @property
    def terms(self) -> Terms:
        """What the sites of the run agreed to."""
        return self.group.roster.terms


@dataclass(frozen=True, slots=True)
class Contribution:
    """What goes into the sum."""

    tensors: Tensors  # the delta
    layout: Layout  # of it
    parts: Mapping[str, Tensors]
    part_layouts: Mapping[str, Layout]
    scalars: Mapping[str, float]
    weight: int  # examples
    train: Counted | None
    evaluation: Counted | None


class SecureDesk:
    """Where a site's tasks are held to what it knows of secure runs."""

    def __init__(
        self,
        journal: SecureJournal,
        rosters: Rosters,
        *,
        site_id: UUID,
        secure_only: bool,
        least_sum: int,
    ) -> None:
        self._journal = journal
        self._rosters = rosters
        self._site_id = site_id
        self._secure_only = secure_only
        self._least_sum = least_sum

    def open(self, task: wire.Task) -> SecureTask | None:
        """Return the checked round of a secure task; None: its answer travels as it is.

        Raises:
            LocalError: this site takes part in secure runs only.
            SecaggRefusedError, SecaggError: the hub asks for what an honest site does not do.
            HansaError: the roster's confirmations cannot be had.
        """
        asked = task.secure
        if asked is None:
            self._require_plain(task)
            return None
        header = asked.header
        _require_agreement(task, header, asked.ranges)
        group = self._rosters.group(header)
        terms = group.roster.terms
        scalars = [scalar.value for scalar in task.local_work.scalars]
        if task.kind is RoundKind.TRAIN and scalars != terms.scalars:
            raise SecaggRefusedError(
                f"the task asks for the scalars {scalars}, agreed: {terms.scalars}"
            )
        position = group.roster.position(self._site_id)
        if position is None or position not in header.participants:
            raise SecaggRefusedError(f"round {header.round_number} leaves this site out")
        least = least_survivors_of(group, header)
        if least < self._least_sum:
            raise SecaggRefusedError(
                f"round {header.round_number} may be a sum of {least} updates, this site takes "
                f"part in sums of {self._least_sum} or more (--least-sum)"
            )
        require_unused(self._journal.round(header))
        own = self._rosters.own_keys(header)
        return SecureTask(header, header.digest(), asked.ranges, group, own)

    def use(self, task: wire.Task, answer: Answer) -> None:
        """Keep that this answer is the one of its round, before any of it is sent.

        Raises SecaggRefusedError if the site has masked another.
        """
        if task.secure is None:
            return
        manifest = answer.manifest
        if manifest is None or SEALS not in manifest.parts:
            raise LocalError("the journal's answer is not one to a secure task")
        self._journal.use(
            task.secure.header,
            Masked(task_id=task.id, masked=manifest.digest, seals=manifest.parts[SEALS].digest),
        )

    def _require_plain(self, task: wire.Task) -> None:
        if self._secure_only:
            raise LocalError(
                "this site takes part in secure runs only (--secure-only), and this run is none: "
                "its plan needs a section `secure`"
            )
        if self._journal.knows(task.run_id):
            raise SecaggRefusedError(
                f"run {task.run_name} is a secure one, for which this site has made keys, and "
                f"round {task.round_number} asks for its answer in the clear"
            )


def store_masked(
    task: wire.Task, secure: SecureTask, given: Contribution, journal: Journal
) -> tuple[StoredTensors, StoredTensors]:
    """Quantise, mask and store an update; return the files of words and of seals, on disk.

    Raises:
        SecaggError: the update does not fit the round, or is not finite.
        OSError: the disk is full, or worse.
    """
    terms, header = secure.terms, secure.header
    trains = task.kind is RoundKind.TRAIN
    vector = vector_layout(
        terms, given.layout, given.part_layouts, sites=len(header.participants), kind=task.kind
    )
    words = encode(
        vector,
        terms.quantiser,
        secure.ranges,
        given.tensors,
        given.parts,
        weight=given.weight,
        weighing=terms.weighing if trains else Weighing.EXAMPLES,
        scalars=given.scalars,
        metrics=_metrics(given),
        rounding_seed=token_bytes(SEED_SIZE),
    )
    seals = mask(
        secure.group,
        header,
        site_id=task.site_id,
        own=secure.own,
        words=words,
        seed=token_bytes(SEED_SIZE),
    )
    masked = {MASKED: words.view(np.int64)}
    sealed = {SEALS: np.frombuffer(seals, np.uint8)}
    stored = journal.store_delta(task, lambda sink: write_tensors(masked, sink), durable=True)
    return stored, journal.store_part(task, SEALS, sealed, durable=True)


def _metrics(given: Contribution) -> dict[str, tuple[float, int]]:
    """Return all metrics by their names in a vector, each with its examples."""
    found: dict[str, tuple[float, int]] = {}
    for prefix, counted in ((TRAIN, given.train), (EVALUATION, given.evaluation)):
        if counted is not None:
            values, examples = counted
            found.update({prefix + name: (float(it), examples) for name, it in values.items()})
    return found


def _require_agreement(task: wire.Task, header: Header, ranges: tuple[float, ...]) -> None:
    """Raise SecaggRefusedError naming the first thing in which task and header differ."""
    slots = {slot.name: slot.digest for slot in task.slots}
    for what, asked, bound in (
        ("run", task.run_id, header.run_id),
        ("round number", task.round_number, header.round_number),
        ("kind of round", task.kind.value, header.kind.value),
        ("model", task.checkpoint.digest, header.checkpoint),
        ("slots", slots, header.slots),
        ("ranges' digest", ranges_digest(ranges), header.ranges),
    ):
        if asked != bound:
            raise SecaggRefusedError(
                f"the task and the header of its secure round disagree in the {what}: "
                f"{asked} and {bound}"
            )
    if not isinstance(task.codec, ExactPlan) or task.groups:
        raise SecaggRefusedError(
            "a secure round's update is neither encoded nor of a group of tensors, "
            f"and the task asks for codec {task.codec.name} and groups {task.groups}"
        )
