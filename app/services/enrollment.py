"""A site's identity: enrolment by invitation, access tokens by challenge, new keys.

A site is its Ed25519 key. Every step proves that the key is held, and signatures are checked
before a transaction opens, so that nobody without a key reaches a row lock. The key of a site
is unique for ever: a retired one opens nothing and enrolls nothing.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from pydantic import JsonValue

from app.db import federations as federation_rows
from app.db import sites as rows
from app.db.models import Invitation, Site
from app.domain.enrollment import InvitationFacts, first_state, require_usable
from app.domain.errors import (
    AlreadyExistsError,
    FieldProblem,
    InvalidRequestError,
    InvitationError,
    NotAuthenticatedError,
    NotFoundError,
    SignatureRefusedError,
    SiteNotActiveError,
    SiteRevokedError,
)
from app.domain.ids import new_id
from app.services.principals import SitePrincipal
from app.services.secret_tokens import Prefix, hash_secret, new_nonce, new_secret
from app.services.sites import wake_runs
from app.services.transactions import Tx
from hansa_core import signing, wire
from hansa_core.audit import Actor, ActorKind
from hansa_core.canonical import canonical_json
from hansa_core.problems import CanonicalizationError, EncodingError, SignatureError
from hansa_core.signing import Purpose
from hansa_core.states import SiteState

CHALLENGE_VALID_FOR = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class ProvenEnrollment:
    """An enrolment whose sender holds the key. Made by `prove_enrollment` only."""

    message: wire.Enrollment
    public_key: bytes
    fingerprint: str

    def actor(self, address: str | None) -> Actor:
        """Return the site, which has no id yet, as the audit log names it."""
        return Actor(ActorKind.SITE, self.message.site_name, address=address)


@dataclass(frozen=True, slots=True)
class TakenChallenge:
    """A challenge that cannot be used again, and the key that must have signed it."""

    site_id: UUID
    nonce: str
    key_id: UUID
    public_key: bytes


@dataclass(frozen=True, slots=True)
class ProvenRotation:
    """A new key that the old one named and that its sender holds."""

    public_key: bytes
    fingerprint: str


def prove_enrollment(signed: wire.SignedEnrollment) -> ProvenEnrollment:
    """Check that the sender of an enrolment holds its key. Needs no database.

    Raises:
        InvalidRequestError: the key is malformed.
        SignatureRefusedError.
    """
    message = signed.enrollment
    public_key = _decode_key(message.public_key, "enrollment.public_key")
    _verify(public_key, Purpose.ENROLL, message.model_dump(mode="json"), signed.signature)
    return ProvenEnrollment(message, public_key, signing.fingerprint(public_key))


def enroll(tx: Tx, proven: ProvenEnrollment, *, now: datetime) -> tuple[wire.SiteView, bool]:
    """Make a site of whoever holds an invitation and a key; tell whether it is new.

    A repeat with the same key and name, after a lost answer, finds the same site and does not
    use the invitation again.

    Raises:
        InvitationError: unknown, expired, revoked or used up.
        AlreadyExistsError: the key is another site's, or the name has another key.
    """
    message = proven.message
    invitation = federation_rows.lock_invitation_by_token(
        tx.session, hash_secret(message.invitation)
    )
    if invitation is None:
        raise InvitationError("no invitation has this token")
    known = rows.owner_of_key(tx.session, proven.public_key)
    if known is not None:
        key, site = known
        same = site.name == message.site_name and site.federation_id == invitation.federation_id
        if not same or key.retired_at is not None:
            raise AlreadyExistsError(
                f"key {proven.fingerprint} has been enrolled under another name; make a new key"
            )
        return _view(tx, site.id), False
    require_usable(_facts(invitation), now=now)
    invitation.uses += 1
    site = _insert_site(tx, invitation, proven, now=now)
    tx.record(
        "site.enrolled",
        federation_id=site.federation_id,
        site_id=str(site.id),
        site=site.name,
        state=site.state,
        fingerprint=proven.fingerprint,
        invitation_id=str(invitation.id),
    )
    if site.state == SiteState.ACTIVE:
        wake_runs(tx, site.federation_id)
    return _view(tx, site.id), True


def create_challenge(tx: Tx, site_id: UUID, *, now: datetime) -> wire.Challenge:
    """Give a nonce to sign, good once and for a minute.

    Raises:
        NotFoundError: there is no such site.
    """
    if not rows.site_exists(tx.session, site_id):
        raise NotFoundError(f"there is no site {site_id}")
    nonce = new_nonce()
    expires_at = now + CHALLENGE_VALID_FOR
    rows.insert_challenge(tx.session, site_id, hash_secret(nonce), now=now, expires_at=expires_at)
    return wire.Challenge(nonce=nonce, expires_at=expires_at)


def take_challenge(tx: Tx, site_id: UUID, nonce: str, *, now: datetime) -> TakenChallenge | None:
    """Use a challenge up, whatever its answer is worth; None: unknown, used or expired.

    To be committed before the answer is judged: a wrong signature costs the nonce too.
    """
    expires_at = rows.delete_challenge(tx.session, site_id, hash_secret(nonce))
    if expires_at is None or expires_at <= now:
        return None
    key = rows.key_in_force(tx.session, site_id)
    return TakenChallenge(site_id, nonce, key.id, key.public_key)


def prove_challenge(taken: TakenChallenge | None, signature: str) -> TakenChallenge:
    """Check the signature over a challenge. Needs no database.

    Raises:
        NotAuthenticatedError: there was no such challenge.
        SignatureRefusedError.
    """
    if taken is None:
        raise NotAuthenticatedError("the nonce is unknown, used or expired: ask for a new one")
    payload: dict[str, JsonValue] = {"nonce": taken.nonce, "site_id": str(taken.site_id)}
    _verify(taken.public_key, Purpose.CHALLENGE, payload, signature)
    return taken


def issue_token(tx: Tx, proven: TakenChallenge, *, now: datetime, minutes: float) -> wire.SiteToken:
    """Give an access token to a site whose key signed the challenge.

    A pending site gets one too: it opens no more than its own view.

    Raises:
        NotAuthenticatedError: the key was retired meanwhile.
        SiteNotActiveError, SiteRevokedError: the site is suspended or revoked.
    """
    key = rows.lock_key_in_force(tx.session, proven.site_id)
    if key.id != proven.key_id:
        raise NotAuthenticatedError("the site's key was replaced meanwhile: sign with the new one")
    site, _, _ = rows.find_with_slug(tx.session, proven.site_id)
    _refuse_states(site, SiteState.SUSPENDED, SiteState.REVOKED)
    secret = new_secret(Prefix.SITE_TOKEN)
    expires_at = now + timedelta(minutes=minutes)
    rows.insert_token(
        tx.session,
        site_id=site.id,
        key_id=key.id,
        token_hash=hash_secret(secret),
        now=now,
        expires_at=expires_at,
    )
    return wire.SiteToken(token=secret, expires_at=expires_at, lifetime_seconds=60 * minutes)


def authenticate(tx: Tx, secret: str, *, now: datetime, allow_pending: bool) -> SitePrincipal:
    """Return whose access token this is, in one query.

    Raises:
        NotAuthenticatedError: the token is unknown or expired, or its key retired.
        SiteNotActiveError: suspended, or pending where that is not allowed.
        SiteRevokedError.
    """
    found = rows.holder_of(tx.session, hash_secret(secret), now=now)
    if found is None:
        raise NotAuthenticatedError(
            "the site's access token is unknown or expired: get a new one by challenge"
        )
    _refuse_states(found, SiteState.SUSPENDED, SiteState.REVOKED)
    if not allow_pending:
        _refuse_states(found, SiteState.PENDING)
    return SitePrincipal(
        id=found.site_id,
        federation_id=found.federation_id,
        name=found.name,
        state=SiteState(found.state),
        key_id=found.key_id,
        public_key=found.public_key,
    )


def get_own(tx: Tx, principal: SitePrincipal) -> wire.SiteView:
    """Return the site as it sees itself."""
    return _view(tx, principal.id)


def prove_rotation(principal: SitePrincipal, request: wire.KeyRotation) -> ProvenRotation:
    """Check that the old key names the new one and that the new one is held.

    Raises:
        InvalidRequestError: the key is malformed, or the old one.
        SignatureRefusedError.
    """
    public_key = _decode_key(request.new_public_key, "new_public_key")
    if public_key == principal.public_key:
        raise _wrong_field("new_public_key", "this is the key in force; a new one is wanted")
    payload: dict[str, JsonValue] = {
        "new_public_key": request.new_public_key,
        "site_id": str(principal.id),
    }
    _verify(principal.public_key, Purpose.ROTATE, payload, request.signature_by_old)
    _verify(public_key, Purpose.ROTATE, payload, request.signature_by_new)
    return ProvenRotation(public_key, signing.fingerprint(public_key))


def rotate_key(
    tx: Tx, principal: SitePrincipal, proven: ProvenRotation, *, now: datetime
) -> wire.SiteView:
    """Put the new key in force and the old one out, with every token given for it.

    Raises:
        NotAuthenticatedError: the old key was retired meanwhile.
        AlreadyExistsError: some site has, or had, the new key.
    """
    old = rows.lock_key_in_force(tx.session, principal.id)
    if old.id != principal.key_id:
        raise NotAuthenticatedError("the site's key was replaced meanwhile: sign with the new one")
    rows.retire_key(tx.session, old.id, now=now)
    key = rows.insert_key(
        tx.session,
        id=new_id(),
        site_id=principal.id,
        public_key=proven.public_key,
        fingerprint=proven.fingerprint,
        created_at=now,
    )
    if key is None:
        raise AlreadyExistsError(f"key {proven.fingerprint} has been enrolled; make a new key")
    rows.delete_tokens(tx.session, principal.id)
    tx.record(
        "site.key_rotated",
        federation_id=principal.federation_id,
        site_id=str(principal.id),
        site=principal.name,
        old_fingerprint=old.fingerprint,
        fingerprint=proven.fingerprint,
    )
    return _view(tx, principal.id)


def _insert_site(
    tx: Tx, invitation: Invitation, proven: ProvenEnrollment, *, now: datetime
) -> Site:
    message = proven.message
    federation = federation_rows.get_federation(tx.session, invitation.federation_id)
    site = rows.insert_site(
        tx.session,
        id=new_id(),
        federation_id=federation.id,
        name=message.site_name,
        state=first_state(requires_approval=federation.requires_approval),
        labels={**message.labels, **invitation.labels},  # the federation's word counts
        hardware=message.hardware.model_dump(mode="json"),
        sdk_version=message.sdk_version,
        invitation_id=invitation.id,
        enrolled_at=now,
    )
    if site is None:
        raise AlreadyExistsError(
            f"federation {federation.slug!r} has a site {message.site_name!r} with another key; "
            "choose another name"
        )
    key = rows.insert_key(
        tx.session,
        id=new_id(),
        site_id=site.id,
        public_key=proven.public_key,
        fingerprint=proven.fingerprint,
        created_at=now,
    )
    if key is None:  # enrolled by another invitation since we looked
        raise AlreadyExistsError(f"key {proven.fingerprint} has been enrolled; make a new key")
    return site


def _refuse_states(site: Site | rows.Holder, *states: SiteState) -> None:
    if site.state in states:
        reason = f": {site.state_reason}" if site.state_reason else ""
        kind = SiteRevokedError if site.state == SiteState.REVOKED else SiteNotActiveError
        raise kind(f"site {site.name!r} is {site.state}{reason}")


def _verify(
    public_key: bytes, purpose: Purpose, payload: dict[str, JsonValue], signature: str
) -> None:
    try:
        given = signing.decode_base64(signature)
        signing.verify(public_key, purpose, canonical_json(payload), given)
    except (SignatureError, EncodingError, CanonicalizationError) as error:
        raise SignatureRefusedError(str(error)) from error


def _decode_key(text: str, field: str) -> bytes:
    try:
        return signing.decode_base64(text, size=signing.KEY_SIZE)
    except EncodingError as error:
        raise _wrong_field(field, str(error)) from error


def _wrong_field(field: str, message: str) -> InvalidRequestError:
    return InvalidRequestError(f"{field}: {message}", fields=(FieldProblem(field, message),))


def _facts(invitation: Invitation) -> InvitationFacts:
    return InvitationFacts(
        max_uses=invitation.max_uses,
        uses=invitation.uses,
        expires_at=invitation.expires_at,
        revoked_at=invitation.revoked_at,
    )


def _view(tx: Tx, site_id: UUID) -> wire.SiteView:
    site, fingerprint, slug = rows.find_with_slug(tx.session, site_id)
    return wire.SiteView(
        id=site.id,
        federation_id=site.federation_id,
        federation_slug=slug,
        name=site.name,
        state=SiteState(site.state),
        state_reason=site.state_reason,
        fingerprint=fingerprint,
    )
