"""Whether a plan fits its federation: one answer for runs that are created and those previewed."""

from dataclasses import dataclass
from uuid import UUID

from app.db import artifacts as rows
from app.db.models import Checkpoint, Model
from app.domain.errors import FieldProblem, InvalidRequestError
from app.services.layouts import model_layout
from app.services.transactions import Tx
from hansa_core.plans import RunPlan, plan_digest
from hansa_core.problems import CanonicalizationError, TensorGroupsError
from hansa_core.tensor_groups import partition


@dataclass(frozen=True, slots=True)
class Proposal:
    """A plan that a run can be made of, with what it names."""

    plan: RunPlan
    digest: str
    model: Model
    base: Checkpoint


def require_fit(tx: Tx, federation_id: UUID, plan: RunPlan, checkpoint_id: UUID | None) -> Proposal:
    """Return the plan with its model and base; `checkpoint_id` None: the model's newest.

    Raises:
        InvalidRequestError: with every field of the plan that names something unusable.
    """
    wrong: list[FieldProblem] = []
    model = rows.find_model(tx.session, federation_id, plan.model)
    base = None
    if model is None:
        wrong.append(
            FieldProblem("plan.model", f"this federation has no model named {plan.model!r}")
        )
    elif checkpoint_id is None:
        base = rows.latest_checkpoint(tx.session, model.id)
        if base is None:
            wrong.append(
                FieldProblem("plan.model", f"model {plan.model!r} has no checkpoint to start from")
            )
    else:
        base = rows.find_checkpoint(tx.session, federation_id, checkpoint_id)
        if base is None or base.model_id != model.id:
            wrong.append(
                FieldProblem(
                    "checkpoint_id", f"model {plan.model!r} has no checkpoint {checkpoint_id}"
                )
            )
    if model is not None and model.layout is not None:
        try:
            partition(model_layout(tx, model.id), plan.tensors)
        except TensorGroupsError as error:
            wrong.append(FieldProblem("plan.tensors", str(error)))
    try:
        digest = plan_digest(plan)
    except CanonicalizationError as error:  # nothing else in a plan is as free as `training`
        wrong.append(FieldProblem("plan.training", str(error)))
        digest = ""
    if wrong or model is None or base is None:
        detail = "; ".join(f"{problem.path}: {problem.message}" for problem in wrong)
        raise InvalidRequestError(detail, fields=tuple(wrong))
    return Proposal(plan, digest, model, base)
