"""The rosters that this site confirmed, opened: what a round's work and duties are checked with.

Invariant: a roster that this site did not confirm itself is never opened, whoever else did.
"""

import threading
from uuid import UUID

from hansa.secure.calls import SecureCalls
from hansa.secure.journal import RosterEntry, SecureJournal
from hansa_core.secagg.errors import SecaggRefusedError
from hansa_core.secagg.messages import Header, Roster, parse
from hansa_core.secagg.rosters import Group, check_header, open_group
from hansa_core.secagg.site import OwnKeys

KEPT_GROUPS = 4  # opened at the same time


class Rosters:
    """The groups of one site's secure runs. Its threads may share it."""

    def __init__(self, calls: SecureCalls, journal: SecureJournal) -> None:
        self._calls = calls
        self._journal = journal
        self._lock = threading.Lock()
        self._groups: dict[str, Group] = {}

    def group(self, header: Header) -> Group:
        """Return the group that a round's header names, after checking that it is of it.

        Raises:
            SecaggRefusedError: this site did not confirm its roster, or deleted the keys since.
            SecaggError: somebody has not confirmed it, or the header is not of it.
            HansaError: the hub does not show the confirmations.
        """
        with self._lock:
            group = self._groups.get(header.roster) or self._open(header)
        check_header(group, header)
        return group

    def own_keys(self, header: Header) -> OwnKeys:
        """Return the site's keys for the roster of a round. Raises SecaggRefusedError."""
        roster = self._confirmed(header)
        keys = self._journal.keys(header.run_id, roster.version)
        if keys is None:
            raise SecaggRefusedError(_unknown(header.roster, header.run_id))
        return keys.own

    def _open(self, header: Header) -> Group:
        entry = self._confirmed(header)
        roster = parse(Roster, entry.body.encode(), digest=entry.digest)
        known = entry.confirmations
        confirmations = self._calls.roster(entry.digest).confirmations if known is None else known
        group = open_group(roster, confirmations)
        if known is None:
            in_force = entry.model_copy(update={"confirmations": confirmations})
            self._journal.in_force(header.run_id, in_force)
        while len(self._groups) >= KEPT_GROUPS:
            del self._groups[next(iter(self._groups))]
        self._groups[entry.digest] = group
        return group

    def _confirmed(self, header: Header) -> RosterEntry:
        entry = self._journal.roster(header.run_id, header.roster)
        if entry is None:
            raise SecaggRefusedError(_unknown(header.roster, header.run_id))
        return entry


def _unknown(digest: str, run_id: UUID) -> str:
    return (
        f"the round is of roster {digest} of run {run_id}, which this site did not confirm, or "
        "whose keys it has deleted since"
    )
