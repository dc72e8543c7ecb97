"""What a task of a secure round takes and is answered with: masked words and their seals."""

from app.db.tasks import TaskContext
from app.domain.errors import UpdateRefusedError
from app.services.secure.groups import Bound, bound_of, neighbours_of, vector_of
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.layouts import Layout
from hansa_core.plans import RunPlan
from hansa_core.secagg.rosters import SEALS, masked_layout, seals_layout
from hansa_core.states import RoundKind


def bound_of_task(tx: Tx, context: TaskContext, plan: RunPlan) -> Bound | None:
    """Return what the task's answer is bound to; None: it is sent as it is."""
    if plan.secure is None or context.task.evaluator:
        return None
    return bound_of(tx, context.round.id)


def work_of(bound: Bound) -> wire.SecureWork:
    """Return what the task tells the site."""
    return wire.SecureWork(header=bound.header, ranges=bound.ranges)


def masked_upload_layout(
    tx: Tx, context: TaskContext, plan: RunPlan, bound: Bound, part: str | None
) -> Layout:
    """Return what the tensors of a masked update have to be, or those of its part.

    Raises:
        UpdateRefusedError: it has no such part.
    """
    if part is None:
        sites = len(bound.header.participants)
        kind = RoundKind(context.round.kind)
        return masked_layout(vector_of(tx, context.run, plan, sites=sites, kind=kind))
    if part != SEALS:
        raise UpdateRefusedError(f"a masked update has no part {part[:64]!r}, wanted {SEALS!r}")
    position = bound.position(context.task.site_id)
    assert position is not None
    near = neighbours_of(bound)[position]
    return seals_layout(len(near), len(bound.group.committee))


def require_masked(manifest: wire.UpdateManifest, plan: RunPlan, bound: Bound) -> None:
    """Refuse an update that is not masked for this round, or tells what the sum is to hide.

    Raises:
        UpdateRefusedError.
    """
    wrong: list[str] = []
    if manifest.secure_round != bound.row.digest:
        wrong.append(
            f"its secure_round is {manifest.secure_round or 'not told'}, wanted {bound.row.digest}"
        )
    parts = sorted(manifest.parts)
    if parts != [SEALS]:
        wrong.append(f"its parts are {', '.join(parts) or 'none'}, wanted {SEALS}")
    wrong += [
        f"it has {name}, wanted none: they are inside the sum"
        for name in ("scalars", "groups")
        if getattr(manifest, name)
    ]
    assert plan.secure is not None
    if not plan.secure.site_metrics:
        if manifest.num_examples != 1:
            wrong.append(f"its num_examples is {manifest.num_examples}, wanted 1")
        if manifest.metrics or manifest.evaluation is not None:
            wrong.append("it has metrics, wanted none: they are inside the sum")
    if wrong:
        raise UpdateRefusedError(f"the update does not suit a secure run: {'; '.join(wrong)}")
