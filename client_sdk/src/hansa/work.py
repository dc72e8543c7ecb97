"""Doing one task: download, evaluate, train, take the delta, sign. No loop and no policy.

What a strategy, tensor groups or a codec ask for beside that is in local_work.py.

Invariants: what leaves is the delta and numbers, never the weights or the data; it is written,
hashed and signed before anything is sent; between any two steps the work stops when asked to.
"""

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from hansa import __version__
from hansa.errors import HansaError
from hansa.heartbeats import Heartbeats
from hansa.journal import Answer, Journal, map_tensors
from hansa.local_work import (
    Result,
    begin,
    finish_work,
    mask_evaluation,
    mask_work,
    require_able,
)
from hansa.memory import Memory
from hansa.progress import ProgressReport
from hansa.secure.tasks import SecureDesk, SecureTask
from hansa.site import SiteClient
from hansa.trainer import (
    EvalResult,
    Tensors,
    TrainContext,
    Trainer,
    TrainerError,
    TrainingStopped,
    derive_seed,
    parse_config,
)
from hansa_core import wire
from hansa_core.plans import problems_of
from hansa_core.secagg.errors import SecaggError
from hansa_core.states import RoundKind, TaskPhase

MessageT = TypeVar("MessageT", bound=BaseModel)
Step = Callable[[str, str, Mapping[str, object]], None]  # (event kind, message, fields)


class AbandonedError(HansaError):
    """The hub does not want this task done any more."""


@dataclass(frozen=True, slots=True)
class Workshop:
    """What the work on a task needs."""

    client: SiteClient
    journal: Journal
    memory: Memory
    trainer: Trainer[Any]
    device: str
    step: Step  # told of every step done
    desk: SecureDesk  # what is known of secure runs


def work(shop: Workshop, task: wire.Task, beats: Heartbeats) -> Answer:
    """Do `task` and return the signed answer, stored in the journal.

    Raises:
        AbandonedError: the hub asked to stop, or took the task away.
        TrainerError: the trainer's configuration, result or delta is unusable.
        SecaggRefusedError, SecaggError: the task is not one that a site of a secure run does.
        CoreError: the checkpoint does not fit the plan, or a correction is not finite.
        HansaError: the checkpoint cannot be had.
        Exception: whatever the trainer raises.
    """
    secure = _checked_round(shop, task)
    config = parse_config(shop.trainer.config_type, task.training)
    require_able(shop.trainer, task)
    site_name = shop.client.identity.record.site_name
    phase = TaskPhase.EVALUATING
    hides_numbers = secure is not None and not secure.terms.site_metrics

    def report(progress: float, **metrics: float) -> None:
        beats.report(phase, progress, {} if hides_numbers else metrics)

    context: TrainContext[Any] = TrainContext(
        config=config,
        seed=derive_seed(task.seed, task.round_number, site_name),
        round_number=task.round_number,
        device=shop.device,
        report=report,
        stop_requested=lambda: beats.stop_reason is not None,
    )
    base = _checkpoint(shop, task, beats)
    slots = _slots(shop, task, beats)

    def on_lost(what: str) -> None:
        shop.step("memory_missing", f"{what}: this site begins anew", {"task_id": str(task.id)})

    start = begin(task, base, slots, shop.memory, on_lost)
    evaluation: wire.Evaluation | None = None
    try:
        if task.evaluate or task.kind is RoundKind.EVALUATE:
            report(0.0)
            evaluation = _evaluation(shop.trainer.evaluate(start.tensors, context))
            require_wanted(beats)
            shop.step("evaluated", "evaluated the model", _numbers(evaluation))
        if task.kind is RoundKind.EVALUATE:
            return _answer_evaluation(shop, task, secure, evaluation)
        phase = TaskPhase.TRAINING
        report(0.0)
        asked = replace(
            context,
            term=start.term,
            wants=frozenset(task.local_work.scalars),
            fixed=start.shares.fixed,
        )
        result = shop.trainer.train(start.tensors, asked)
    except TrainingStopped:
        require_wanted(beats)
        raise TrainerError("the trainer stopped although nobody asked it to") from None
    require_wanted(beats)
    shop.step("trained", f"trained on {result.num_examples} examples", dict(result.metrics))
    if secure is None:
        made = finish_work(task, site_name, base, start, result, shop.journal, shop.memory)
    else:
        made = mask_work(task, secure, base, start, result, evaluation, shop.journal, shop.memory)
    told = _Told(result.num_examples, dict(result.metrics), evaluation)
    return _answer_update(shop, task, secure, made, told)


def promise(shop: Workshop, task: wire.Task, answer: Answer) -> None:
    """Keep that `answer` is the one of its secure round; to be called before any of it is sent.

    Raises SecaggRefusedError if the site has masked another.
    """
    with _telling_refusals(shop, task):
        shop.desk.use(task, answer)


def require_wanted(beats: Heartbeats) -> None:
    """Raise what the hub said if it does not want the task done any more."""
    if beats.lost is not None:
        raise beats.lost
    if beats.stop_reason is not None:
        raise AbandonedError(beats.stop_reason)


def _checkpoint(shop: Workshop, task: wire.Task, beats: Heartbeats) -> dict[str, NDArray[Any]]:
    digest, size = task.checkpoint.digest, task.checkpoint.size
    path = shop.journal.cached_checkpoint(task.checkpoint)
    if path is None:
        path = shop.journal.checkpoint_path(digest)

        told = ProgressReport(beats, TaskPhase.DOWNLOADING, size, shop.step)

        def on_bytes(done: int) -> None:
            told.note(done)
            require_wanted(beats)

        shop.client.download_checkpoint(task, path, on_bytes)
        shop.step("downloaded", f"downloaded the model, {size} bytes", {"digest": digest})
    shop.journal.trim_checkpoints(digest)
    require_wanted(beats)
    return map_tensors(path)


def _slots(shop: Workshop, task: wire.Task, beats: Heartbeats) -> dict[str, Tensors]:
    """Return the server's slots that the task needs, downloaded where they are not here yet."""
    wanted = task.slots if task.kind is RoundKind.TRAIN else []
    shop.journal.trim_slots({slot.digest for slot in wanted})
    slots: dict[str, Tensors] = {}
    for slot in wanted:
        path = shop.journal.cached_slot(slot)
        if path is None:
            path = shop.journal.slot_path(slot.digest)

            def on_bytes(done: int, slot: wire.SlotRef = slot) -> None:
                beats.report(TaskPhase.DOWNLOADING, done / slot.size)
                require_wanted(beats)

            shop.client.download_slot(task, slot, path, on_bytes)
            message = f"downloaded the server's {slot.name}, {slot.size} bytes"
            shop.step("downloaded", message, {"digest": slot.digest})
        slots[slot.name] = map_tensors(path)
    require_wanted(beats)
    return slots


def _evaluation(result: EvalResult | None) -> wire.Evaluation | None:
    if result is None:
        return None
    return _checked(wire.Evaluation, num_examples=result.num_examples, metrics=dict(result.metrics))


@dataclass(frozen=True, slots=True)
class _Told:
    """What a manifest says of training, unless it is hidden in a sum."""

    num_examples: int
    metrics: dict[str, float]
    evaluation: wire.Evaluation | None


def _checked_round(shop: Workshop, task: wire.Task) -> SecureTask | None:
    """Return the round that a secure task's masks are bound to; None: the task is a plain one."""
    with _telling_refusals(shop, task):
        return shop.desk.open(task)


@contextmanager
def _telling_refusals(shop: Workshop, task: wire.Task) -> Generator[None]:
    try:
        yield
    except SecaggError as error:
        message = f"this site refuses round {task.round_number} of run {task.run_name}: {error}"
        shop.step("secure_refused", message, {"task_id": str(task.id), "reason": str(error)})
        raise


def _answer_update(
    shop: Workshop, task: wire.Task, secure: SecureTask | None, made: Result, told: _Told
) -> Answer:
    stored = made.delta
    if secure is not None and not secure.terms.site_metrics:
        told = _Told(1, {}, None)  # the numbers are in the sum
    manifest = _checked(
        wire.UpdateManifest,
        task_id=task.id,
        run_id=task.run_id,
        site_id=task.site_id,
        round_number=task.round_number,
        checkpoint_digest=task.checkpoint.digest,
        digest=stored.digest,
        size=stored.size,
        num_examples=told.num_examples,
        metrics=told.metrics,
        evaluation=told.evaluation,
        sdk_version=__version__,
        groups=task.groups,
        scalars=made.scalars,
        parts={
            name: wire.UpdatePart(digest=part.digest, size=part.size)
            for name, part in made.parts.items()
        },
        secure_round=None if secure is None else secure.digest,
    )
    answer = Answer(signature=shop.client.sign_update(manifest), manifest=manifest)
    shop.journal.store_answer(task, answer)
    what = "delta" if secure is None else "masked delta"
    shop.step("delta_stored", f"wrote and signed the {what}, {stored.size} bytes", {})
    return answer


def _answer_evaluation(
    shop: Workshop,
    task: wire.Task,
    secure: SecureTask | None,
    evaluation: wire.Evaluation | None,
) -> Answer:
    if evaluation is None:
        raise TrainerError("this site holds out no data to evaluate on: evaluate() gave None")
    if secure is not None:
        made = mask_evaluation(task, secure, evaluation, shop.journal)
        told = _Told(evaluation.num_examples, {}, evaluation)
        return _answer_update(shop, task, secure, made, told)
    report = wire.EvaluationReport(
        task_id=task.id,
        run_id=task.run_id,
        site_id=task.site_id,
        round_number=task.round_number,
        checkpoint_digest=task.checkpoint.digest,
        evaluation=evaluation,
        sdk_version=__version__,
    )
    answer = Answer(signature=shop.client.sign_evaluation(report), report=report)
    shop.journal.store_answer(task, answer)
    return answer


def _checked(kind: type[MessageT], **fields: object) -> MessageT:
    """Build a message from what the trainer returned. Raises TrainerError naming each field."""
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        listed = "; ".join(f"{path}: {message}" for path, message in problems_of(error))
        raise TrainerError(f"the hub takes no such result: {listed}") from error


def _numbers(evaluation: wire.Evaluation | None) -> Mapping[str, object]:
    return dict(evaluation.metrics) if evaluation else {}
