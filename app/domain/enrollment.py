"""How a site's enrolment moves. Pure.

pending -> active <-> suspended;  any of them -> revoked, which is for ever
"""

from dataclasses import dataclass
from datetime import datetime

from app.domain.errors import IllegalTransitionError, InvitationError
from hansa_core.states import SiteState

_EXITS = {
    SiteState.PENDING: {SiteState.ACTIVE, SiteState.REVOKED},
    SiteState.ACTIVE: {SiteState.SUSPENDED, SiteState.REVOKED},
    SiteState.SUSPENDED: {SiteState.ACTIVE, SiteState.REVOKED},
    SiteState.REVOKED: set[SiteState](),
}


@dataclass(frozen=True, slots=True)
class InvitationFacts:
    max_uses: int
    uses: int
    expires_at: datetime
    revoked_at: datetime | None


def require_legal(current: SiteState, target: SiteState) -> None:
    """Raise IllegalTransitionError unless a site in `current` may enter `target`."""
    if target not in _EXITS[current]:
        wanted = " or ".join(sorted(_EXITS[current])) or "nothing: it is final"
        raise IllegalTransitionError(f"a {current} site cannot become {target}, only {wanted}")


def require_usable(facts: InvitationFacts, *, now: datetime) -> None:
    """Raise InvitationError unless the invitation can be redeemed once more."""
    if facts.revoked_at is not None:
        raise InvitationError(f"the invitation was revoked at {facts.revoked_at:%Y-%m-%d %H:%M}Z")
    if now >= facts.expires_at:
        raise InvitationError(f"the invitation expired at {facts.expires_at:%Y-%m-%d %H:%M}Z")
    if facts.uses >= facts.max_uses:
        raise InvitationError(f"the invitation was used {facts.uses} of {facts.max_uses} times")


def first_state(*, requires_approval: bool) -> SiteState:
    """Return the state a new site starts in."""
    return SiteState.PENDING if requires_approval else SiteState.ACTIVE
