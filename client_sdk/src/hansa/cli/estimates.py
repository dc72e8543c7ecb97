"""`hansa run estimate`: what a secure round of a plan sends, and what it rounds away."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer
from pydantic import BaseModel

from hansa.cli.output import JsonFlag, bytes_of, print_fields, print_json
from hansa.cli.plans import read_plan
from hansa.cli.settings import FederationOption, chosen_federation, connect
from hansa.errors import LocalError
from hansa_core.aggregation.inputs import part_layout
from hansa_core.dtypes import DType
from hansa_core.layouts import Layout, TensorShape
from hansa_core.plans import RunPlan
from hansa_core.secagg.parameters import least_survivors, parameters_of
from hansa_core.secagg.ranges import estimate
from hansa_core.secagg.rosters import vector_layout
from hansa_core.secagg.seals import seals_size
from hansa_core.states import RoundKind, SiteState


class SecureEstimate(BaseModel):
    """What one secure round costs, before there is a run."""

    sites: int
    parameters: int
    committee: int
    least_survivors: int
    upload_bytes: int  # of a site
    round_bytes: int  # of all sites
    value_bits: int
    first_error: float  # of the mean, in a model's units, where ranges are the clip
    error: float  # of the mean later, in root mean squares of a site's values


@dataclass(frozen=True, slots=True)
class _Sizes:
    parameters: int
    sites: int


def estimate_run(
    plan: Annotated[Path, typer.Argument(help="The plan, TOML or JSON.")],
    federation: FederationOption = None,
    sites: Annotated[
        int | None, typer.Option(min=3, help="Sites of a round, instead of the active ones.")
    ] = None,
    parameters: Annotated[
        int | None, typer.Option(min=1, help="Of the model, instead of asking the hub.")
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Say what a secure plan's rounds send, and how far their mean is off. Nothing is created."""
    parsed = read_plan(plan)
    told = estimate_of(parsed, _sizes(parsed, federation, sites, parameters))
    if as_json:
        print_json(told)
        return
    print_fields(
        [
            ("sites", f"{told.sites}, of which {told.least_survivors} have to answer"),
            ("committee", told.committee),
            ("a site's upload", bytes_of(told.upload_bytes)),
            ("a round's uploads", bytes_of(told.round_bytes)),
            ("bits a value", told.value_bits),
            ("error of the first mean", f"{told.first_error:.2g} in a parameter's own units"),
            ("error of later means", f"{told.error:.2g} of the root mean square of an update"),
        ]
    )


def estimate_of(plan: RunPlan, sizes: _Sizes) -> SecureEstimate:
    """Return what a round costs. Raises LocalError: the plan is not secure; SecaggError."""
    terms = plan.secure_terms
    if plan.secure is None or terms is None:
        raise LocalError(
            f"run {plan.name} is not secure: its updates are sent as its codec has them",
            hint="add a [secure] table to the plan",
        )
    uploaded = Layout((TensorShape("model", DType.F32, (sizes.parameters,)),))
    parts = {name: part_layout(uploaded) for name in plan.strategy.local_work().parts}
    vector = vector_layout(terms, uploaded, parts, sites=sizes.sites, kind=RoundKind.TRAIN)
    found = estimate(vector, terms.quantiser, sizes.sites)
    group = parameters_of(sizes.sites)
    upload = found.bytes + seals_size(group.degree, group.committee)
    return SecureEstimate(
        sites=sizes.sites,
        parameters=sizes.parameters,
        committee=group.committee,
        least_survivors=least_survivors(sizes.sites, terms.min_survivors),
        upload_bytes=upload,
        round_bytes=upload * sizes.sites,
        value_bits=found.value_bits,
        first_error=found.first_step / (6 * sizes.sites) ** 0.5,
        error=found.error,
    )


def _sizes(
    plan: RunPlan, federation: str | None, sites: int | None, parameters: int | None
) -> _Sizes:
    if sites is not None and parameters is not None:
        return _Sizes(parameters, sites)
    with connect() as client:
        slug = chosen_federation(client, federation)
        if sites is None:
            active = [it for it in client.sites(slug) if it.state is SiteState.ACTIVE]
            wanted = plan.cohort.size
            sites = len(active) if wanted is None else wanted + plan.cohort.over_select
        if parameters is None:
            parameters = client.model(slug, plan.model).parameters
    if parameters is None:
        raise LocalError(
            f"model {plan.model} has no checkpoint yet",
            hint="upload one with `hansa checkpoint upload`, or give --parameters",
        )
    return _Sizes(parameters, sites)
