"""What each role may do, and how a token's scopes narrow it."""

import pytest

from app.domain.errors import ForbiddenError
from app.domain.permissions import ALL_SCOPES, Action, require_action, require_scope
from hansa_core.states import Role, Scope

MAY = {
    Role.OWNER: set(Action),
    Role.OPERATOR: {Action.READ, Action.ENROLL},
    Role.RESEARCHER: {Action.READ, Action.RUN},
    Role.AUDITOR: {Action.READ, Action.AUDIT, Action.HOLD},
}
NEEDS = {
    Action.READ: Scope.READ,
    Action.AUDIT: Scope.READ,
    Action.RUN: Scope.RUNS,
    Action.ENROLL: Scope.SITES,
    Action.GOVERN: Scope.ADMIN,
    Action.HOLD: Scope.ADMIN,
}


@pytest.mark.parametrize("role", list(Role))
@pytest.mark.parametrize("action", list(Action))
def test_a_role_may_do_its_own_part_only(role: Role, action: Action) -> None:
    if action in MAY[role]:
        require_action(role, ALL_SCOPES, action)
    else:
        with pytest.raises(ForbiddenError, match=f"your role here is {role}"):
            require_action(role, ALL_SCOPES, action)


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("scope", list(Scope))
def test_even_an_owners_token_needs_the_scope(action: Action, scope: Scope) -> None:
    if NEEDS[action] is scope:
        require_action(Role.OWNER, {scope}, action)
    else:
        with pytest.raises(ForbiddenError, match=f"needs {NEEDS[action]}"):
            require_action(Role.OWNER, {scope}, action)


def test_a_scope_adds_nothing_to_a_role() -> None:
    with pytest.raises(ForbiddenError, match="to govern takes owner"):
        require_action(Role.AUDITOR, ALL_SCOPES, Action.GOVERN)


def test_the_message_says_which_scopes_the_token_has() -> None:
    with pytest.raises(ForbiddenError, match="scopes are read, runs; the request needs admin"):
        require_scope({Scope.RUNS, Scope.READ}, Scope.ADMIN)
    with pytest.raises(ForbiddenError, match="scopes are none"):
        require_scope(set(), Scope.READ)
