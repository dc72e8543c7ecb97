"""Reading what a round of a secure run is bound to: its roster's group, its header, its vector."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

from app.db import secure as rows
from app.db.models import Roster, Round, Run, SecureRound
from app.services.layouts import part_layouts, update_layout
from app.services.transactions import Tx
from hansa_core.plans import RunPlan
from hansa_core.secagg import messages
from hansa_core.secagg.messages import Confirmation, Header, SignedConfirmation, parse
from hansa_core.secagg.plans import Terms
from hansa_core.secagg.rosters import Group, graph_of, open_group, vector_layout
from hansa_core.secagg.vectors import VectorLayout
from hansa_core.signing import encode_base64
from hansa_core.states import RoundKind

ValueT = TypeVar("ValueT")

GROUPS_KEPT = 16  # that this process has opened: a thousand members take a quarter of a second
GRAPHS_KEPT = 16  # of rounds
_groups: OrderedDict[str, Group] = OrderedDict()
_graphs: OrderedDict[str, dict[int, tuple[int, ...]]] = OrderedDict()


@dataclass(frozen=True, slots=True)
class Bound:
    """What a secure round that collects, or is further, is bound to."""

    row: SecureRound
    roster: Roster
    group: Group
    header: Header

    @property
    def survivors(self) -> tuple[int, ...]:
        """The positions of those whose updates the sum is of; none while it collects."""
        return tuple(self.row.survivors or ())

    @property
    def ranges(self) -> tuple[float, ...]:
        """The ranges of the tensors."""
        return tuple(self.row.ranges)

    def position(self, site_id: UUID) -> int | None:
        """Return a participant's position; None: it takes no part."""
        position = self.group.roster.position(site_id)
        return position if position in self.header.participants else None

    def site_id(self, position: int) -> UUID:
        """Return whose position it is."""
        return self.group.roster.members[position].site_id


def bound_of(tx: Tx, round_id: UUID) -> Bound | None:
    """Return what the round is bound to; None: it is not secure, or still being set up."""
    row = rows.find_secure_round(tx.session, round_id)
    if row is None:
        return None
    roster = tx.session.get_one(Roster, row.roster_id)
    header = parse(Header, row.header.encode(), digest=row.digest)
    return Bound(row, roster, group_of(tx, roster), header)


def surviving_sites(tx: Tx, row: Round) -> frozenset[UUID] | None:
    """Return whose updates a secure round's sum is of; None: the round is not secure."""
    bound = bound_of(tx, row.id)
    return None if bound is None else frozenset(map(bound.site_id, bound.survivors))


def terms_of(plan: RunPlan) -> Terms:
    """Return what the sites of a secure run agree to."""
    terms = plan.secure_terms
    assert terms is not None
    return terms


def group_of(tx: Tx, roster: Roster) -> Group:
    """Return what follows from a roster that was in force. It never changes, so few reads open it.

    Raises:
        SecaggError: its members have not all confirmed it.
    """
    assert roster.body is not None
    assert roster.digest is not None
    group = _groups.get(roster.digest)
    if group is None:
        body = parse(messages.Roster, roster.body.encode(), digest=roster.digest)
        group = open_group(body, confirmations_of(tx, roster))
        _keep(_groups, roster.digest, group, most=GROUPS_KEPT)
    return group


def confirmations_of(tx: Tx, roster: Roster) -> list[SignedConfirmation]:
    """Return the members' words for a roster, as far as they came."""
    made: list[SignedConfirmation] = []
    for duty in rows.confirmations(tx.session, roster.id):
        assert duty.message is not None
        assert duty.signature is not None
        made.append(
            SignedConfirmation(
                confirmation=parse(Confirmation, duty.message.encode()),
                signature=encode_base64(duty.signature),
            )
        )
    return made


def neighbours_of(bound: Bound) -> dict[int, tuple[int, ...]]:
    """Return each participant's neighbours."""
    graph = _graphs.get(bound.row.digest)
    if graph is None:
        graph = graph_of(bound.group, bound.header)
        _keep(_graphs, bound.row.digest, graph, most=GRAPHS_KEPT)
    return graph


def vector_of(tx: Tx, run: Run, plan: RunPlan, *, sites: int, kind: RoundKind) -> VectorLayout:
    """Return where everything lies in the words of an update of a round of so many sites."""
    return vector_layout(
        terms_of(plan),
        update_layout(tx, run, plan, ()),
        part_layouts(tx, run, plan),
        sites=sites,
        kind=kind,
    )


def _keep(kept: OrderedDict[str, ValueT], name: str, value: ValueT, *, most: int) -> None:
    kept[name] = value
    while len(kept) > most:
        kept.popitem(last=False)
