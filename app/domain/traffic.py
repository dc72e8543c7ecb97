"""How many bytes of model files a plan's rounds move. Pure.

Exact for the files themselves, as the codecs and the packing of masked updates lay them out;
messages, signatures, and the keys and shares of secure rounds are not counted. An update of the
codec `exact` is taken without metadata, which our SDK writes none of.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from app.domain.runs import secure_of
from hansa_core.aggregation.inputs import part_layout
from hansa_core.codecs.formats import bytes_of
from hansa_core.codecs.plans import ExactPlan
from hansa_core.layouts import Layout
from hansa_core.plans import RunPlan
from hansa_core.secagg.parameters import parameters_of
from hansa_core.secagg.rosters import masked_layout, seals_layout, vector_layout
from hansa_core.states import RoundKind
from hansa_core.tensor_groups import partition

_EXACT = ExactPlan()


@dataclass(frozen=True, slots=True)
class Crowd:
    """How many sites do what."""

    trainers: int  # asked in a training round
    members: int  # of a secure run's roster: all who are eligible
    at_sites: int  # that evaluate their own data in the final round
    evaluators: int


@dataclass(frozen=True, slots=True)
class Traffic:
    """Bytes of model files, as if nobody failed, came late or was asked again."""

    down: int  # to one site that trains, in one round
    up: int  # from one site that trains, in one round: from the one that sends most
    a_round: int  # of training, with an evaluation where the first has one
    total: int  # of all rounds
    budgeted: int  # of a training round, as a budget counts: without the server's slots


def traffic_of(
    plan: RunPlan,
    layout: Layout,
    checkpoint_bytes: int,
    crowd: Crowd,
    held: Sequence[Sequence[str]],
) -> Traffic:
    """Return what the rounds of a plan move.

    `layout` is the model's, `held` the tensor groups that each trainer holds. Raises SecaggError
    where sums of so many sites do not fit into the lanes.
    """
    final = _final_round(plan, layout, checkpoint_bytes, crowd)
    if plan.rounds == 0:
        return Traffic(checkpoint_bytes, 0, final, final, 0)
    sizes = _uploads(plan, layout, crowd, held)
    slots = _slot_bytes(plan, layout)
    tasks, sent = crowd.trainers, sum(sizes)
    if plan.buffer is not None:  # each update that counts was one task
        tasks, sent = plan.buffer.size, plan.buffer.size * sum(sizes) // len(sizes)
    budgeted = tasks * checkpoint_bytes + sent
    training = budgeted + tasks * slots
    watched = crowd.evaluators * checkpoint_bytes
    every = plan.evaluation.every
    evaluated = -(-plan.rounds // every) if every else 0
    return Traffic(
        down=checkpoint_bytes + slots,
        up=max(sizes),
        a_round=training + (watched if every else 0),
        total=plan.rounds * training + evaluated * watched + final,
        budgeted=budgeted,
    )


def _uploads(
    plan: RunPlan, layout: Layout, crowd: Crowd, held: Sequence[Sequence[str]]
) -> list[int]:
    """Return what each trainer sends in a round."""
    if plan.secure is not None:
        return [_masked(plan, layout, crowd.trainers, crowd.members, RoundKind.TRAIN)] * (
            crowd.trainers
        )
    parts = partition(layout, plan.tensors)
    known: dict[tuple[str, ...], int] = {}
    for groups in {tuple(groups) for groups in held}:
        uploaded = parts.upload_layout(groups)
        files = len(plan.strategy.local_work().parts)
        known[groups] = bytes_of(plan.codec, uploaded)
        known[groups] += files * bytes_of(_EXACT, part_layout(uploaded))
    return [known[tuple(groups)] for groups in held]


def _slot_bytes(plan: RunPlan, layout: Layout) -> int:
    """Return what of the server's state goes to every site with the model, from round 2 on."""
    slots = plan.strategy.local_work().slots
    if not slots:
        return 0
    parts = partition(layout, plan.tensors)
    shared = parts.upload_layout([group.name for group in plan.tensors.groups])
    return len(slots) * bytes_of(_EXACT, part_layout(shared))


def _final_round(plan: RunPlan, layout: Layout, checkpoint_bytes: int, crowd: Crowd) -> int:
    """Return what the evaluation after the last round moves."""
    if not plan.evaluation.final:
        return 0
    at_sites = crowd.at_sites if plan.evaluation.at_sites else 0
    moved = (at_sites + crowd.evaluators) * checkpoint_bytes
    if secure_of(plan, RoundKind.EVALUATE) is not None:
        moved += at_sites * _masked(plan, layout, at_sites, crowd.members, RoundKind.EVALUATE)
    return moved


def _masked(plan: RunPlan, layout: Layout, sites: int, members: int, kind: RoundKind) -> int:
    """Return the bytes of a masked update with its seals, of a round of `sites` participants."""
    terms = plan.secure_terms
    assert terms is not None
    uploaded = partition(layout, plan.tensors).upload_layout(())
    parts = {name: part_layout(uploaded) for name in plan.strategy.local_work().parts}
    vector = vector_layout(terms, uploaded, parts, sites=sites, kind=kind)
    seals = seals_layout(parameters_of(sites).degree, parameters_of(members).committee)
    return bytes_of(_EXACT, masked_layout(vector)) + bytes_of(_EXACT, seals)
