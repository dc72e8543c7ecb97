"""All that a running site needs for secure runs, put together."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hansa.secure.duties import DutyServer, DutyThread, Step
from hansa.secure.journal import SecureJournal
from hansa.secure.peers import Peers
from hansa.secure.rosters import Rosters
from hansa.secure.tasks import SecureDesk
from hansa.site import SiteClient


@dataclass(frozen=True, slots=True)
class Office:
    """A site's side of secure aggregation at work."""

    journal: SecureJournal
    desk: SecureDesk
    server: DutyServer
    thread: DutyThread


def open_office(
    state_dir: Path,
    client: SiteClient,
    step: Step,
    *,
    secure_only: bool,
    least_sum: int,
    delay: Callable[[int], float],
) -> Office:
    """Return the office of the site in `state_dir`, whose lock is held.

    `delay`: seconds to wait after so many failures of duties in a row.
    """
    record = client.identity.record
    journal = SecureJournal(state_dir)
    journal.trim()
    calls = client.secure
    rosters = Rosters(calls, journal)
    desk = SecureDesk(
        journal,
        rosters,
        site_id=record.site_id,
        secure_only=secure_only,
        least_sum=least_sum,
    )
    server = DutyServer(record, calls, journal, rosters, Peers(state_dir), step)
    return Office(journal, desk, server, DutyThread(server, step, delay=delay))
