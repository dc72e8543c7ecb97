"""What there is to know of a checkpoint, and how the runs of a model come from each other."""

from collections.abc import Sequence
from uuid import UUID

from app.db import artifacts as artifact_rows
from app.db import lineage as rows
from app.db import receipts as receipt_rows
from app.db.models import Checkpoint, Metric, Run
from app.domain.errors import NotFoundError
from app.services import checkpoints
from app.services.principals import Membership
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.layouts import Layout
from hansa_core.plans import RunPlan
from hansa_core.states import RunState

MOST_STEPS = 100  # of a card's lineage
MOST_NODES = 1000  # runs, and uploaded checkpoints, of a model's lineage


def card(tx: Tx, membership: Membership, checkpoint_id: UUID) -> wire.ModelCard:
    """Return the card of one checkpoint.

    Raises:
        NotFoundError: the federation has no such checkpoint.
    """
    shown = checkpoints.get_checkpoint(tx, membership.federation_id, checkpoint_id)
    row = tx.session.get_one(Checkpoint, checkpoint_id)
    model = artifact_rows.find_model(tx.session, membership.federation_id, str(row.model_id))
    if model is None:
        raise NotFoundError(f"this federation has no model {row.model_id}")
    layout = Layout.from_json(model.layout) if model.layout else None
    run = None if row.run_id is None else tx.session.get_one(Run, row.run_id)
    plan = None if run is None else RunPlan.model_validate(run.plan)
    number = row.round_number or 0
    line = rows.ancestors(tx.session, row, limit=MOST_STEPS + 1)
    made_in = row.round_id
    return wire.ModelCard(
        federation=membership.slug,
        model=model.name,
        description=model.description,
        checkpoint=shown,
        parameters=None if layout is None else layout.parameters,
        tensors=None if layout is None else len(layout.tensors),
        made_by=None if run is None else run.name,
        run_id=row.run_id,
        round_number=row.round_number,
        plan=plan,
        sites=0 if run is None else rows.contributors(tx.session, run.id, up_to=number),
        examples=None if made_in is None else rows.examples(tx.session, made_in),
        metrics=[_metric(it) for it in _means(tx, row)],
        receipt=None if made_in is None else receipt_rows.digest_of_round(tx.session, made_in),
        secure=plan is not None and plan.secure is not None,
        lineage=[_step(it) for it in line[:MOST_STEPS]],
        lineage_more=len(line) > MOST_STEPS,
    )


def lineage(tx: Tx, membership: Membership, name_or_id: str) -> wire.Lineage:
    """Return what the model's runs made of each other's checkpoints, oldest first.

    Raises:
        NotFoundError: the federation has no such model.
    """
    federation_id = membership.federation_id
    model = artifact_rows.find_model(tx.session, federation_id, name_or_id)
    if model is None:
        raise NotFoundError(f"this federation has no model {name_or_id!r}")
    runs = rows.runs_of_model(tx.session, federation_id, model.id, limit=MOST_NODES + 1)
    uploads = rows.uploaded(tx.session, model.id, limit=MOST_NODES + 1)
    made = rows.made_by_runs(tx.session, [it.run.id for it in runs], model.id)
    nodes = [_run_node(it, made.get(it.run.id)) for it in runs[:MOST_NODES]]
    nodes += [_upload_node(*it) for it in uploads[:MOST_NODES]]
    return wire.Lineage(
        nodes=sorted(nodes, key=lambda node: (node.created_at, node.latest_checkpoint_id)),
        more=max(len(runs), len(uploads)) > MOST_NODES,
    )


def _means(tx: Tx, row: Checkpoint) -> Sequence[Metric]:
    """Return what is known of a checkpoint: an uploaded one was evaluated by runs from it."""
    if row.run_id is not None and row.round_number is not None:
        return rows.means(tx.session, row.run_id, row.round_number)
    run_id = rows.newest_run_from(tx.session, row)
    return [] if run_id is None else rows.means(tx.session, run_id, 0)


def _metric(metric: Metric) -> wire.CardMetric:
    return wire.CardMetric(
        kind=metric.kind,
        name=metric.name,
        value=metric.value,
        num_examples=metric.num_examples,
        round_number=metric.round_number,
    )


def _step(ancestor: rows.Ancestor) -> wire.CardStep:
    checkpoint = ancestor.checkpoint
    return wire.CardStep(
        checkpoint_id=checkpoint.id,
        digest=checkpoint.digest,
        run_id=checkpoint.run_id,
        run_name=ancestor.run_name,
        round_number=checkpoint.round_number,
        created_at=checkpoint.created_at,
    )


def _run_node(found: rows.RunOfModel, made: rows.Made | None) -> wire.LineageRun:
    run, base = found.run, found.base
    return wire.LineageRun(
        run_id=run.id,
        run_name=run.name,
        state=RunState(run.state),
        from_checkpoint_id=base.id,
        from_run_id=base.run_id,
        from_round=base.round_number,
        first=0 if made is None else made.first,
        last=0 if made is None else made.last,
        checkpoints=0 if made is None else made.count,
        latest_checkpoint_id=run.latest_checkpoint_id,
        created_at=run.created_at,
        metric=None if found.metric is None else _metric(found.metric),
    )


def _upload_node(checkpoint: Checkpoint, parent: Checkpoint | None) -> wire.LineageRun:
    return wire.LineageRun(
        run_id=None,
        run_name=None,
        state=None,
        from_checkpoint_id=checkpoint.parent_id,
        from_run_id=None if parent is None else parent.run_id,
        from_round=None if parent is None else parent.round_number,
        first=0,
        last=0,
        checkpoints=1,
        latest_checkpoint_id=checkpoint.id,
        created_at=checkpoint.created_at,
        metric=None,
    )
