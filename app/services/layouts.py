"""What the tensors of a run's updates have to be, before anything is masked."""

from collections.abc import Mapping, Sequence
from uuid import UUID

from app.db.models import Model, Run
from app.domain.errors import UpdateRefusedError
from app.services.transactions import Tx
from hansa_core.aggregation.inputs import part_layout
from hansa_core.layouts import Layout
from hansa_core.plans import RunPlan
from hansa_core.tensor_groups import TensorsPlan, partition

LAYOUTS_KEPT = 64  # of models, parsed: 300 tensors take 7 ms
_layouts: dict[UUID, Layout] = {}


def model_layout(tx: Tx, model_id: UUID) -> Layout:
    """Return the layout of a model. It never changes, so few reads parse it."""
    layout = _layouts.get(model_id)
    if layout is None:
        layout = Layout.from_json(tx.session.get_one(Model, model_id).layout)
        if len(_layouts) >= LAYOUTS_KEPT:
            _layouts.clear()
        _layouts[model_id] = layout
    return layout


def update_layout(
    tx: Tx, run: Run, plan: RunPlan, groups: Sequence[str], part: str | None = None
) -> Layout:
    """Return what the tensors of an update have to be, or those of one of its parts.

    Raises:
        UpdateRefusedError: updates of this run have no such part.
    """
    layout = model_layout(tx, run.model_id)
    if plan.tensors != TensorsPlan():
        layout = partition(layout, plan.tensors).upload_layout(groups)
    if part is None:
        return layout
    if part not in plan.strategy.local_work().parts:
        raise UpdateRefusedError(
            f"updates of strategy {plan.strategy.name} have no part {part[:64]!r}"
        )
    return part_layout(layout)


def part_layouts(tx: Tx, run: Run, plan: RunPlan) -> Mapping[str, Layout]:
    """Return the layouts of the parts that an update without tensor groups has."""
    return {
        part: update_layout(tx, run, plan, (), part) for part in plan.strategy.local_work().parts
    }
