"""Who may do what: roles in a federation, narrowed by the scopes of the token in use. Pure."""

from collections.abc import Set as AbstractSet
from enum import StrEnum

from app.domain.errors import ForbiddenError
from hansa_core.states import Role, Scope


class Action(StrEnum):
    """A kind of thing that a person does in a federation."""

    READ = "read"
    AUDIT = "audit"  # read who did what, from where
    RUN = "run"  # models, checkpoints, runs
    ENROLL = "enroll"  # invitations, sites
    GOVERN = "govern"  # settings, members
    HOLD = "hold"  # keep what a receipt needs from being deleted


_ROLES: dict[Action, frozenset[Role]] = {
    Action.READ: frozenset(Role),
    Action.AUDIT: frozenset({Role.OWNER, Role.AUDITOR}),
    Action.RUN: frozenset({Role.OWNER, Role.RESEARCHER}),
    Action.ENROLL: frozenset({Role.OWNER, Role.OPERATOR}),
    Action.GOVERN: frozenset({Role.OWNER}),
    Action.HOLD: frozenset({Role.OWNER, Role.AUDITOR}),
}

_SCOPES: dict[Action, Scope] = {
    Action.READ: Scope.READ,
    Action.AUDIT: Scope.READ,
    Action.RUN: Scope.RUNS,
    Action.ENROLL: Scope.SITES,
    Action.GOVERN: Scope.ADMIN,
    Action.HOLD: Scope.ADMIN,
}

ALL_SCOPES = frozenset(Scope)  # what a login session has


def allowed_actions(role: Role, scopes: AbstractSet[Scope]) -> list[Action]:
    """Return what a member in `role`, with such a token, may do, sorted."""
    return sorted(
        action for action in Action if role in _ROLES[action] and _SCOPES[action] in scopes
    )


def require_scope(scopes: AbstractSet[Scope], scope: Scope) -> None:
    """Raise ForbiddenError unless the token in use has `scope`."""
    if scope not in scopes:
        seen = ", ".join(sorted(scopes)) or "none"
        raise ForbiddenError(f"this token's scopes are {seen}; the request needs {scope}")


def require_action(role: Role, scopes: AbstractSet[Scope], action: Action) -> None:
    """Raise ForbiddenError unless a member in `role`, with such a token, may do `action`."""
    if role not in _ROLES[action]:
        wanted = " or ".join(sorted(_ROLES[action]))
        raise ForbiddenError(f"your role here is {role}; to {action} takes {wanted}")
    require_scope(scopes, _SCOPES[action])
