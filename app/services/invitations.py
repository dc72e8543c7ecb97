"""Invitations: what lets a site enroll, so many times, until an hour, in one federation."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from app.db import federations as rows
from app.db.models import Invitation
from app.domain.errors import NotFoundError
from app.domain.ids import new_id
from app.domain.permissions import Action
from app.services.principals import Membership
from app.services.secret_tokens import Prefix, hash_secret, new_secret
from app.services.transactions import Tx
from hansa_core import wire


def create(
    tx: Tx,
    membership: Membership,
    request: wire.InvitationCreate,
    *,
    public_url: str,
    now: datetime,
) -> wire.NewInvitation:
    """Make an invitation and show its secret, this once.

    Raises:
        ForbiddenError.
    """
    membership.require(Action.ENROLL)
    secret = new_secret(Prefix.INVITATION)
    invitation = Invitation(
        id=new_id(),
        federation_id=membership.federation_id,
        token_hash=hash_secret(secret),
        max_uses=request.max_uses,
        uses=0,
        labels=request.labels,
        created_by=membership.principal.user_id,
        created_at=now,
        expires_at=now + timedelta(hours=request.expires_hours),
    )
    rows.insert_invitation(tx.session, invitation)
    tx.record(
        "invitation.created",
        federation_id=membership.federation_id,
        invitation_id=str(invitation.id),
        max_uses=invitation.max_uses,
        expires_at=invitation.expires_at.isoformat(),
        by=membership.principal.email,
    )
    return wire.NewInvitation(
        **_view(invitation).model_dump(),
        token=secret,
        command=f"hansa site enroll {public_url} {secret} --name NAME",
    )


def list_all(
    tx: Tx, membership: Membership, *, before: UUID | None, limit: int
) -> Sequence[wire.Invitation]:
    """Return the federation's invitations without their secrets, newest first."""
    membership.require(Action.READ)
    found = rows.list_invitations(tx.session, membership.federation_id, before=before, limit=limit)
    return [_view(invitation) for invitation in found]


def revoke(tx: Tx, membership: Membership, invitation_id: UUID, *, now: datetime) -> None:
    """Make an invitation unusable; sites that have used it stay. Again is no error.

    Raises:
        ForbiddenError, NotFoundError.
    """
    membership.require(Action.ENROLL)
    invitation = rows.lock_invitation(tx.session, membership.federation_id, invitation_id)
    if invitation is None:
        raise NotFoundError(f"{membership.slug!r} has no invitation {invitation_id}")
    if invitation.revoked_at is not None:
        return
    invitation.revoked_at = now
    tx.record(
        "invitation.revoked",
        federation_id=membership.federation_id,
        invitation_id=str(invitation.id),
        by=membership.principal.email,
    )


def _view(invitation: Invitation) -> wire.Invitation:
    return wire.Invitation(
        id=invitation.id,
        max_uses=invitation.max_uses,
        uses=invitation.uses,
        labels=invitation.labels,
        created_at=invitation.created_at,
        expires_at=invitation.expires_at,
        revoked_at=invitation.revoked_at,
    )
