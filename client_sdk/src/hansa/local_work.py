"""What a run's plan asks of a site beside plain training: where it begins, what it sends and keeps.

`begin` makes the local model and the correction out of the checkpoint, the server's slots and the
site's own memory; `finish` makes files and numbers out of the trained weights. A run that asks
for nothing costs nothing: nothing is read, computed or stored for it.

Invariants: what a site goes on from is the memory of the one task that the hub names; a memory that
cannot be had is begun anew, and said; what is remembered is on disk before the answer is stored.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from hansa.journal import Journal, StoredTensors, reading
from hansa.memory import Memory
from hansa.secure.tasks import Contribution, Counted, SecureTask, store_masked
from hansa.shares import Shares, personal_of, personalised, shares_of
from hansa.trainer import (
    Tensors,
    Trainer,
    TrainerError,
    TrainResult,
    applies_term,
    delta,
    derive_seed,
    write_delta,
)
from hansa_core import wire
from hansa_core.aggregation.inputs import part_layout
from hansa_core.codecs.feedback import carry, residual_of
from hansa_core.codecs.files import decode, encode
from hansa_core.codecs.plans import ExactPlan, SparsePlan
from hansa_core.corrections import Finished, LocalTerm, finish, remembered_name
from hansa_core.corrections import begin as begin_correction
from hansa_core.dtypes import DType
from hansa_core.layouts import Layout, TensorShape
from hansa_core.local_work import ControlVariates, NoCorrection, Scalar
from hansa_core.secagg.rosters import SEALS
from hansa_core.states import RoundKind
from hansa_core.tensors import Sink

PERSONAL = "personal"  # the site's own tensors
RESIDUAL = "residual"  # what the last update left out

_ROUNDING = "rounding"  # the purpose of the seed that stochastic rounding draws from


@dataclass(frozen=True, slots=True)
class Beginning:
    """What local work starts from."""

    tensors: Tensors  # the local model: the checkpoint with the site's personal tensors
    shares: Shares
    slots: Mapping[str, Tensors]
    remembered: Mapping[str, Tensors]
    term: LocalTerm | None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What training came to beside the delta, before any of it is masked or stored."""

    parts: Mapping[str, Tensors]
    scalars: Mapping[Scalar, float]
    remember: dict[str, Tensors]


@dataclass(frozen=True, slots=True)
class Result:
    """What local work gives: the files are stored, and so is what is remembered."""

    delta: StoredTensors
    parts: Mapping[str, StoredTensors]
    scalars: Mapping[Scalar, float]


def require_able(trainer: Trainer[Any], task: wire.Task) -> None:
    """Raise TrainerError if the trainer cannot do what the task's strategy asks of it."""
    correction = task.local_work.correction
    if isinstance(correction, NoCorrection) or task.kind is not RoundKind.TRAIN:
        return
    if not applies_term(trainer):
        raise TrainerError(
            f"the run's strategy corrects local training ({correction.kind}), and "
            f"{type(trainer).__qualname__} does not: add context.term to the gradients and set "
            "applies_term = True on the trainer (docs/trainers.md)"
        )


def begin(
    task: wire.Task,
    base: Tensors,
    slots: Mapping[str, Tensors],
    memory: Memory,
    on_lost: Callable[[str], None],
) -> Beginning:
    """Return what local work starts from; `on_lost` is told what was not remembered.

    Raises CoreError if the checkpoint, the slots and the plan do not go together.
    """
    shares = shares_of(base, task.tensors, task.groups)
    wanted = _remembered_layouts(task, shares)
    remembered = _recalled(task, wanted, memory, on_lost) if wanted else {}
    correction = task.local_work.correction
    name = remembered_name(correction)
    term = None
    if task.kind is RoundKind.TRAIN:
        kept = None if name is None else remembered.get(name)
        term = begin_correction(correction, shares.uploaded, slots, kept)
    own = remembered.get(PERSONAL)
    return Beginning(personalised(base, own), shares, slots, remembered, term)


def finish_work(
    task: wire.Task,
    site_name: str,
    base: Tensors,
    start: Beginning,
    result: TrainResult,
    journal: Journal,
    memory: Memory,
) -> Result:
    """Store the delta and what goes with it, and remember what the next round goes on from.

    Raises:
        TrainerError: what the trainer returned is unusable, or less than the strategy needs.
        CoreError: a correction or an encoding of it is not finite.
        OSError: the disk is full, or worse.
    """
    stored, residual = _encoded(task, site_name, base, result.tensors, start, journal)
    outcome = settle(task, base, start, result)
    if residual is not None:
        outcome.remember[RESIDUAL] = residual
    parts = {
        name: journal.store_part(task, name, tensors) for name, tensors in outcome.parts.items()
    }
    _keep(task, outcome, memory)
    return Result(stored, parts, outcome.scalars)


def mask_work(
    task: wire.Task,
    secure: SecureTask,
    base: Tensors,
    start: Beginning,
    result: TrainResult,
    evaluation: wire.Evaluation | None,
    journal: Journal,
    memory: Memory,
) -> Result:
    """Like `finish_work`, for a secure round: all that is told is in the masked words.

    Raises:
        TrainerError: what the trainer returned is unusable, or less than the strategy needs.
        CoreError: the update does not fit the round, or is not finite.
        OSError: the disk is full, or worse.
    """
    moved = delta(result.tensors, base, start.shares.uploaded_names)
    outcome = settle(task, base, start, result)
    uploaded = start.shares.uploaded
    _keep(task, outcome, memory)
    given = Contribution(
        tensors=moved,
        layout=uploaded,
        parts=outcome.parts,
        part_layouts={name: part_layout(uploaded) for name in task.local_work.parts},
        scalars={name.value: value for name, value in outcome.scalars.items()},
        weight=result.num_examples,
        train=(result.metrics, result.num_examples),
        evaluation=_counted(evaluation),
    )
    stored, seals = store_masked(task, secure, given, journal)
    return Result(stored, {SEALS: seals}, {})


def mask_evaluation(
    task: wire.Task, secure: SecureTask, evaluation: wire.Evaluation, journal: Journal
) -> Result:
    """Store the masked metrics of an evaluation round. Raises CoreError, OSError."""
    empty = Layout(())
    given = Contribution(
        tensors={},
        layout=empty,
        parts={},
        part_layouts={},
        scalars={},
        weight=evaluation.num_examples,
        train=None,
        evaluation=_counted(evaluation),
    )
    stored, seals = store_masked(task, secure, given, journal)
    return Result(stored, {SEALS: seals}, {})


def settle(task: wire.Task, base: Tensors, start: Beginning, result: TrainResult) -> Outcome:
    """Return what the trained weights come to, beside their delta.

    Raises:
        TrainerError: what the trainer returned is unusable, or less than the strategy needs.
        CoreError: a correction is not finite.
    """
    scalars = _scalars(task, result)
    shares = start.shares
    remember: dict[str, Tensors] = {}
    if shares.personal.tensors:
        remember[PERSONAL] = personal_of(result.tensors, shares)
    corrected = _corrected(task, base, start, result)
    remember.update(corrected.remember)
    return Outcome(corrected.parts, scalars, remember)


def _keep(task: wire.Task, outcome: Outcome, memory: Memory) -> None:
    """Remember what the next round goes on from."""
    if outcome.remember:
        memory.store(task.run_id, task.id, outcome.remember)
        memory.trim(task.run_id, {task.id} if task.follows is None else {task.id, task.follows})


def _counted(evaluation: wire.Evaluation | None) -> Counted | None:
    return None if evaluation is None else (evaluation.metrics, evaluation.num_examples)


def _remembered_layouts(task: wire.Task, shares: Shares) -> dict[str, Layout]:
    """Return what the site goes on from, by name, as it has to be laid out."""
    wanted: dict[str, Layout] = {}
    if shares.personal.tensors:
        wanted[PERSONAL] = shares.personal
    if task.kind is not RoundKind.TRAIN:
        return wanted
    name = remembered_name(task.local_work.correction)
    if name is not None:
        wanted[name] = part_layout(shares.uploaded)
    if isinstance(task.codec, SparsePlan):
        floats = [it for it in shares.uploaded.tensors if it.dtype.is_float]
        wanted[RESIDUAL] = Layout(tuple(TensorShape(it.name, DType.F32, it.shape) for it in floats))
    return wanted


def _recalled(
    task: wire.Task, wanted: Mapping[str, Layout], memory: Memory, on_lost: Callable[[str], None]
) -> dict[str, Tensors]:
    if task.follows is None:
        return {}
    recollection = memory.recall(task.follows, wanted)
    for sentence in recollection.lost:
        on_lost(sentence)
    fitting: dict[str, Tensors] = {}
    for name, tensors in recollection.found.items():
        for array in tensors.values():
            array.flags.writeable = False
        if Layout.of(tensors) == wanted[name]:
            fitting[name] = tensors
        else:
            on_lost(f"the {name} of task {task.follows} is of other tensors than this task's")
    return fitting


def _scalars(task: wire.Task, result: TrainResult) -> dict[Scalar, float]:
    """Return the numbers that were asked for. Raises TrainerError naming those missing."""
    told = {Scalar.NORMALISER: result.normaliser, Scalar.BASE_LOSS: result.base_loss}
    asked = {name: told[name] for name in task.local_work.scalars}
    missing = [name.value for name, value in asked.items() if value is None]
    if missing:
        raise TrainerError(
            f"the run's strategy needs {', '.join(missing)} of every update, and the trainer did "
            "not say: set it in TrainResult (docs/trainers.md)"
        )
    return {name: value for name, value in asked.items() if value is not None}


def _corrected(task: wire.Task, base: Tensors, start: Beginning, result: TrainResult) -> Finished:
    correction = task.local_work.correction
    name = remembered_name(correction)
    return finish(
        correction,
        start.shares.uploaded,
        start.slots,
        None if name is None else start.remembered.get(name),
        base=base,
        local=result.tensors,
        reach=_reach(result) if isinstance(correction, ControlVariates) else None,
    )


def _reach(result: TrainResult) -> float:
    """Return learning rate times steps. Raises TrainerError naming what the trainer did not say."""
    steps = result.steps if result.normaliser is None else result.normaliser
    told = {"steps": steps, "learning_rate": result.learning_rate}
    missing = [name for name, value in told.items() if value is None]
    if steps is None or result.learning_rate is None:
        raise TrainerError(
            f"the run's strategy keeps control variates, which need {' and '.join(missing)} in "
            "TrainResult: they are known of plain SGD and SGD with momentum (docs/trainers.md)"
        )
    return steps * result.learning_rate


def _encoded(
    task: wire.Task,
    site_name: str,
    base: Tensors,
    local: Tensors,
    start: Beginning,
    journal: Journal,
) -> tuple[StoredTensors, Tensors | None]:
    """Store the delta as the codec has it; return what it left out, where that is kept."""
    plan, layout = task.codec, start.shares.uploaded
    if isinstance(plan, ExactPlan):
        return journal.store_delta(task, lambda sink: write_delta(local, base, layout, sink)), None
    moved = delta(local, base, start.shares.uploaded_names)
    feeds_back = isinstance(plan, SparsePlan)
    carried = carry(plan, moved, start.remembered.get(RESIDUAL)) if feeds_back else moved
    seed = derive_seed(task.seed, task.round_number, site_name, _ROUNDING)

    def write(sink: Sink) -> int:
        return encode(plan, carried, sink, layout=layout, generator=np.random.default_rng(seed))

    stored = journal.store_delta(task, write)
    if not feeds_back:
        return stored, None
    with reading(stored.path) as (read, size):
        return stored, residual_of(carried, decode(read, size, layout, plan))
