"""What a plan would do if its run were started now. Nothing is stored, nobody is asked.

Who would be asked is chosen by what chooses the cohorts of rounds; whether the plan fits is decided
by what decides it for a run that is created. Bytes are worked out, times are remembered.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from statistics import median
from uuid import UUID

from app.db import paces
from app.db import runs as run_rows
from app.db.models import Site
from app.db.paces import Pace
from app.domain.cautions import Outlook, cautions
from app.domain.cohorts import Candidate, Cohort, Sorted, choose_cohort, sort_out
from app.domain.runs import NextRound, buffer_of, next_round
from app.domain.traffic import Crowd, Traffic, traffic_of
from app.services import checkpoints, proposals
from app.services.cohorts import candidates_of, idle_sites
from app.services.layouts import model_layout
from app.services.transactions import Tx
from hansa_core import wire
from hansa_core.plans import RunPlan
from hansa_core.secagg.errors import SecaggError
from hansa_core.wire.previews import MOST_SITE_NAMES

REMEMBERED_ROUNDS = 20  # whose median an estimate is


@dataclass(frozen=True, slots=True)
class _Choice:
    """Who would take part in the first round."""

    coming: NextRound
    found: Sorted
    cohort: Cohort
    trainers: list[Site]  # asked to train, or to evaluate where nobody trains
    evaluators: list[Site]

    @property
    def asked(self) -> int:
        """Tasks of the round; while it waits, of the smallest that it waits for."""
        if self.cohort.waiting_for is not None:
            return self.coming.threshold
        return len(self.trainers) + len(self.evaluators)


def preview(
    tx: Tx,
    federation_id: UUID,
    request: wire.RunPreviewRequest,
    *,
    now: datetime,
    online_for: timedelta,
) -> wire.RunPreview:
    """Return what a run of this plan would do.

    Raises:
        InvalidRequestError: with every field of the plan that names something unusable.
        ArtifactPurgedError: the retention policy deleted the checkpoint to start from.
    """
    proposal = proposals.require_fit(tx, federation_id, request.plan, request.checkpoint_id)
    plan, base = proposal.plan, proposal.base
    blob = checkpoints.find_blob(tx, federation_id, base.digest)
    sites = run_rows.candidates(tx.session, federation_id)
    choice = _choose(plan, sites, now=now, online_for=online_for)
    traffic, secure_problem = _traffic(tx, plan, proposal.model.id, blob.size, choice)
    past = paces.paces_of_model(
        tx.session, federation_id, proposal.model.id, rounds=REMEMBERED_ROUNDS
    )
    seconds = median(pace.seconds for pace in past) if past and plan.rounds else None
    outlook = Outlook(
        plan=plan,
        trainers=len(choice.trainers) or choice.coming.threshold,
        threshold=choice.coming.threshold,
        evaluators_away=_away(choice),
        evaluators_unknown=_unknown(plan, choice),
        runs_at_work=len(run_rows.alive_run_ids(tx.session, federation_id)),
        seconds_per_round=seconds,
        bytes_per_round=traffic.budgeted,
        secure_problem=secure_problem,
    )
    asked = sorted(site.name for site in [*choice.trainers, *choice.evaluators])
    excluded = choice.cohort.excluded or choice.found.excluded
    return wire.RunPreview(
        plan=plan,
        plan_digest=proposal.digest,
        checkpoint=wire.CheckpointRef(id=base.id, digest=base.digest, size=blob.size),
        eligible=len(choice.found.online),
        asked=choice.asked,
        site_names=asked[:MOST_SITE_NAMES],
        excluded=[wire.Exclusion(site=it.site, reason=it.reason) for it in excluded],
        waits_for=choice.cohort.waiting_for,
        bytes_down=traffic.down,
        bytes_up=traffic.up,
        bytes_per_round=traffic.a_round,
        bytes_total=traffic.total,
        seconds_per_round=seconds,
        seconds_total=None if seconds is None else seconds * plan.rounds,
        estimated_from=None if seconds is None else _say_source(past),
        warnings=cautions(outlook),
    )


def _choose(
    plan: RunPlan, sites: Sequence[Site], *, now: datetime, online_for: timedelta
) -> _Choice:
    """Choose the first round's sites as the round would: a new run has no updates to weigh by."""
    coming = next_round(plan, rounds_completed=0, evaluated=False)
    assert coming is not None  # a plan has a round, or a final evaluation
    candidates: list[Candidate] = candidates_of(sites, {})
    found = sort_out(plan, candidates, online_for=online_for, now=now)
    cohort = choose_cohort(plan, coming, candidates, online_for=online_for, now=now)
    buffer = buffer_of(plan, coming.kind)
    trainers = [site for site in sites if site.name in cohort.names]
    if buffer is not None:
        idle = idle_sites(sites, cohort.names, busy=(), asked={}, places=buffer.concurrency)
        trainers = [site for _, site in idle]
    evaluators = [site for site in sites if site.name in cohort.evaluators]
    return _Choice(coming, found, cohort, trainers, evaluators)


def _traffic(
    tx: Tx, plan: RunPlan, model_id: UUID, checkpoint_bytes: int, choice: _Choice
) -> tuple[Traffic, str | None]:
    """Return what the rounds move, and why secure ones cannot be: then nothing is moved."""
    declared = [group.name for group in plan.tensors.groups]
    held = [plan.tensors.held_by(site.labels) for site in choice.trainers]
    held = held or [declared] * choice.coming.threshold  # of sites that are yet to come
    online = len(choice.found.online)
    crowd = Crowd(
        trainers=len(held),
        members=max(online, len(held)),
        at_sites=max(online, choice.coming.threshold),
        evaluators=len(choice.found.watching),
    )
    try:
        layout = model_layout(tx, model_id)
        return traffic_of(plan, layout, checkpoint_bytes, crowd, held), None
    except SecaggError as error:
        return Traffic(0, 0, 0, 0, 0), str(error)


def _away(choice: _Choice) -> list[str]:
    active = {site.name for site in choice.found.evaluators}
    return sorted(active - choice.found.watching)


def _unknown(plan: RunPlan, choice: _Choice) -> list[str]:
    active = {site.name for site in choice.found.evaluators}
    return sorted(set(plan.evaluation.evaluators) - active)


def _say_source(past: Sequence[Pace]) -> str:
    """Say what an estimate rests on."""
    least, most = min(pace.sites for pace in past), max(pace.sites for pace in past)
    sites = f"{most} {'site' if most == 1 else 'sites'}"
    if least != most:
        sites = f"{least} to {sites}"
    if len(past) == 1:
        return f"the only completed round of this model, with {sites}"
    return f"median of the last {len(past)} rounds of this model, with {sites}"
