"""Who asks: a person with a token, that person in one federation, or a site. Plain values."""

from dataclasses import dataclass
from uuid import UUID

from app.domain.errors import ForbiddenError
from app.domain.permissions import Action, require_action, require_scope
from hansa_core.audit import Actor, ActorKind
from hansa_core.states import Role, Scope, SiteState

HUB = Actor(ActorKind.HUB, "hub")  # its command line, or the hub by itself


@dataclass(frozen=True, slots=True)
class Principal:
    """A person, through the token in use."""

    user_id: UUID
    email: str
    is_admin: bool
    scopes: frozenset[Scope]
    token_id: UUID
    address: str | None = None  # the client's, as the hub sees it

    @property
    def actor(self) -> Actor:
        """The person as the audit log names them."""
        return Actor(ActorKind.PERSON, self.email, self.user_id, self.address, self.token_id)

    def require_scope(self, scope: Scope) -> None:
        """Raise ForbiddenError unless the token in use has `scope`."""
        require_scope(self.scopes, scope)

    def require_admin(self, scope: Scope = Scope.ADMIN) -> None:
        """Raise ForbiddenError unless this is an admin whose token has `scope`."""
        if not self.is_admin:
            raise ForbiddenError(f"{self.email} is not an admin of this hub; the request needs one")
        require_scope(self.scopes, scope)


@dataclass(frozen=True, slots=True)
class Membership:
    """A person in one federation."""

    federation_id: UUID
    slug: str
    role: Role  # the hub's admins are owners everywhere
    principal: Principal

    @property
    def actor(self) -> Actor:
        """The person as the audit log names them."""
        return self.principal.actor

    def require(self, action: Action) -> None:
        """Raise ForbiddenError unless role and token both allow `action`."""
        require_action(self.role, self.principal.scopes, action)


@dataclass(frozen=True, slots=True)
class SitePrincipal:
    """A site, through its access token and the key that it was given for."""

    id: UUID
    federation_id: UUID
    name: str
    state: SiteState
    key_id: UUID
    public_key: bytes
    address: str | None = None  # the client's, as the hub sees it

    @property
    def actor(self) -> Actor:
        """The site as the audit log names it."""
        return Actor(ActorKind.SITE, self.name, self.id, self.address)
