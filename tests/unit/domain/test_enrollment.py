"""A site's states and the limits of an invitation."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.domain.enrollment import InvitationFacts, first_state, require_legal, require_usable
from app.domain.errors import IllegalTransitionError, InvitationError
from hansa_core.states import SiteState

NOW = datetime(2030, 5, 1, 12, tzinfo=UTC)
USABLE = InvitationFacts(max_uses=2, uses=1, expires_at=NOW + timedelta(hours=1), revoked_at=None)

LEGAL = {
    (SiteState.PENDING, SiteState.ACTIVE),
    (SiteState.PENDING, SiteState.REVOKED),
    (SiteState.ACTIVE, SiteState.SUSPENDED),
    (SiteState.ACTIVE, SiteState.REVOKED),
    (SiteState.SUSPENDED, SiteState.ACTIVE),
    (SiteState.SUSPENDED, SiteState.REVOKED),
}


@pytest.mark.parametrize("current", list(SiteState))
@pytest.mark.parametrize("target", list(SiteState))
def test_exactly_the_drawn_moves_are_legal(current: SiteState, target: SiteState) -> None:
    if (current, target) in LEGAL:
        require_legal(current, target)
    else:
        with pytest.raises(IllegalTransitionError, match=f"a {current} site"):
            require_legal(current, target)


def test_a_revoked_site_is_told_that_it_is_final() -> None:
    with pytest.raises(IllegalTransitionError, match="it is final"):
        require_legal(SiteState.REVOKED, SiteState.ACTIVE)


def test_an_invitation_with_a_use_left_is_usable() -> None:
    require_usable(USABLE, now=NOW)


def test_an_invitation_expires_at_the_very_moment() -> None:
    require_usable(USABLE, now=USABLE.expires_at - timedelta(microseconds=1))
    with pytest.raises(InvitationError, match="expired at 2030-05-01 13:00Z"):
        require_usable(USABLE, now=USABLE.expires_at)


def test_a_used_up_invitation_is_refused() -> None:
    with pytest.raises(InvitationError, match="used 2 of 2 times"):
        require_usable(replace(USABLE, uses=2), now=NOW)


def test_a_revoked_invitation_is_refused_whatever_else_holds() -> None:
    with pytest.raises(InvitationError, match="revoked"):
        require_usable(replace(USABLE, revoked_at=NOW - timedelta(days=1)), now=NOW)


def test_a_site_starts_pending_only_where_approval_is_required() -> None:
    assert first_state(requires_approval=True) is SiteState.PENDING
    assert first_state(requires_approval=False) is SiteState.ACTIVE
