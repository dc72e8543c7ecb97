"""Sites as a round's choice sees them: for rounds that open, and for previews."""

from collections.abc import Collection, Mapping, Sequence
from uuid import UUID

from app.db.models import Site
from app.domain.cohorts import Candidate, Machine
from hansa_core.states import SiteState


def candidates_of(sites: Sequence[Site], examples: Mapping[UUID, int]) -> list[Candidate]:
    """Return sites as candidates; `examples`: of the last update in the run, by site."""
    return [
        Candidate(
            name=site.name,
            labels=site.labels,
            last_seen_at=site.last_seen_at,
            state=SiteState(site.state),
            machine=_machine(site),
            examples=examples.get(site.id),
        )
        for site in sites
    ]


def idle_sites(
    sites: Sequence[Site],
    cohort: Collection[str],
    *,
    busy: Collection[UUID],
    asked: Mapping[UUID, tuple[int, bool]],
    places: int,
) -> list[tuple[int, Site]]:
    """Return (times asked so far, site) of those whom a buffered round asks next.

    `cohort` are the names of the eligible, `busy` those that train, `asked` is how often each was
    asked in this round and whether it failed in it: then it is not asked again.
    """
    idle = [
        (asked.get(site.id, (0, False))[0], site)
        for site in sites
        if site.name in cohort and site.id not in busy and not asked.get(site.id, (0, False))[1]
    ]
    idle.sort(key=lambda pair: (pair[0], pair[1].name))  # who was asked least comes first
    return idle[:places]


def _machine(site: Site) -> Machine | None:
    seen = site.hardware
    if seen is None:
        return None
    return Machine(seen["cpus"], seen["memory_bytes"], len(seen["gpus"]))
