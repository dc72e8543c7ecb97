"""Rows of sites, their keys, challenges and access tokens.

Whoever changes a site's state or key holds the site's row lock. Reads for people name the
federation; reads for a site start at its token or its key.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import Row, Select, bindparam, delete, false, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Session

from app.db.models import Federation, Site, SiteChallenge, SiteKey, SiteToken
from hansa_core.states import SiteState

# These two statements go with every request of a site: they are built once.
_HOLDER = (
    select(
        *(Site.id, Site.federation_id, Site.name, Site.state, Site.state_reason),
        *(SiteKey.id, SiteKey.public_key),
    )
    .join(SiteToken, SiteToken.site_id == Site.id)
    .join(SiteKey, SiteKey.id == SiteToken.key_id)
    .where(
        SiteToken.token_hash == bindparam("token_hash"),
        SiteToken.expires_at > bindparam("now"),
        SiteKey.retired_at.is_(None),
    )
)
_LAST_SEEN = select(Site.last_seen_at).where(Site.id == bindparam("site_id"))


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has an access token, with the key that it was given for."""

    site_id: UUID
    federation_id: UUID
    name: str
    state: str
    state_reason: str | None
    key_id: UUID
    public_key: bytes


def insert_site(session: Session, **columns: Any) -> Site | None:  # noqa: ANN401 -- column values
    """Return the new site, or None when its federation has one of that name."""
    statement = (
        insert(Site)
        .values(**columns)
        .on_conflict_do_nothing(index_elements=[Site.federation_id, Site.name])
    )
    return session.scalars(statement.returning(Site)).one_or_none()


def insert_key(session: Session, **columns: Any) -> SiteKey | None:  # noqa: ANN401 -- column values
    """Return the new key, or None when some site, perhaps long ago, had the same."""
    statement = (
        insert(SiteKey)
        .values(**columns)
        .on_conflict_do_nothing(index_elements=[SiteKey.public_key])
    )
    return session.scalars(statement.returning(SiteKey)).one_or_none()


def owner_of_key(session: Session, public_key: bytes) -> Row[tuple[SiteKey, Site]] | None:
    """Return the key, retired or not, with its site."""
    query = select(SiteKey, Site).join(Site, Site.id == SiteKey.site_id)
    return session.execute(query.where(SiteKey.public_key == public_key)).one_or_none()


def list_sites(
    session: Session,
    federation_id: UUID,
    *,
    states: Sequence[SiteState],
    seen: bool | None,
    seen_since: datetime,
    named: str | None,
    before: UUID | None,
    limit: int,
) -> Sequence[Row[tuple[Site, str]]]:
    """Return the federation's sites with the fingerprint of the key in force, newest first.

    Only those in one of `states`, if any are given; that were (or, False, were not) seen since
    `seen_since`; whose name has `named` in it.
    """
    query = _with_fingerprint().where(Site.federation_id == federation_id)
    if states:
        query = query.where(Site.state.in_(states))
    if seen is not None:
        present = func.coalesce(Site.last_seen_at >= seen_since, false())
        query = query.where(present if seen else ~present)
    if named is not None:
        query = query.where(Site.name.icontains(named, autoescape=True))
    if before is not None:
        query = query.where(Site.id < before)
    return session.execute(query.order_by(Site.id.desc()).limit(limit)).all()


def find_site(session: Session, federation_id: UUID, site_id: UUID) -> Row[tuple[Site, str]] | None:
    query = _with_fingerprint().where(Site.id == site_id, Site.federation_id == federation_id)
    return session.execute(query).one_or_none()


def lock_site(session: Session, federation_id: UUID, site_id: UUID) -> Row[tuple[Site, str]] | None:
    """Return the site, locked, with the fingerprint of the key in force."""
    query = _with_fingerprint().where(Site.id == site_id, Site.federation_id == federation_id)
    locked = query.with_for_update(of=Site, key_share=True)
    return session.execute(locked.execution_options(populate_existing=True)).one_or_none()


def site_exists(session: Session, site_id: UUID) -> bool:
    return session.scalars(select(Site.id).where(Site.id == site_id)).one_or_none() is not None


def find_with_slug(session: Session, site_id: UUID) -> Row[tuple[Site, str, str]]:
    """Return the site with its fingerprint and its federation's slug."""
    query = (
        select(Site, SiteKey.fingerprint, Federation.slug)
        .join(SiteKey, (SiteKey.site_id == Site.id) & SiteKey.retired_at.is_(None))
        .join(Federation, Federation.id == Site.federation_id)
        .where(Site.id == site_id)
    )
    return session.execute(query).one()


def lock_key_in_force(session: Session, site_id: UUID) -> SiteKey:
    """Lock the site, then return its key that is not retired."""
    session.execute(select(Site.id).where(Site.id == site_id).with_for_update(key_share=True))
    query = select(SiteKey).where(SiteKey.site_id == site_id, SiteKey.retired_at.is_(None))
    return session.scalars(query).one()


def retire_key(session: Session, key_id: UUID, *, now: datetime) -> None:
    session.execute(update(SiteKey).where(SiteKey.id == key_id).values(retired_at=now))


def holder_of(session: Session, token_hash: bytes, *, now: datetime) -> Holder | None:
    """Return the site whose unexpired token has this hash."""
    row = session.execute(_HOLDER, {"token_hash": token_hash, "now": now}).one_or_none()
    return None if row is None else Holder(*row)


def insert_challenge(
    session: Session, site_id: UUID, nonce_hash: bytes, *, now: datetime, expires_at: datetime
) -> None:
    """Store a challenge; the site's expired ones are swept up on the way."""
    session.execute(
        delete(SiteChallenge).where(
            SiteChallenge.site_id == site_id, SiteChallenge.expires_at <= now
        )
    )
    session.add(SiteChallenge(nonce_hash=nonce_hash, site_id=site_id, expires_at=expires_at))
    session.flush()


def delete_challenge(session: Session, site_id: UUID, nonce_hash: bytes) -> datetime | None:
    """Delete the challenge and return when it expires, or None if there is none."""
    statement = delete(SiteChallenge).where(
        SiteChallenge.nonce_hash == nonce_hash, SiteChallenge.site_id == site_id
    )
    return session.scalars(statement.returning(SiteChallenge.expires_at)).one_or_none()


def key_in_force(session: Session, site_id: UUID) -> SiteKey:
    query = select(SiteKey).where(SiteKey.site_id == site_id, SiteKey.retired_at.is_(None))
    return session.scalars(query).one()


def insert_token(
    session: Session,
    *,
    site_id: UUID,
    key_id: UUID,
    token_hash: bytes,
    now: datetime,
    expires_at: datetime,
) -> None:
    """Store an access token; the site's expired ones are swept up on the way."""
    session.execute(
        delete(SiteToken).where(SiteToken.site_id == site_id, SiteToken.expires_at <= now)
    )
    session.add(
        SiteToken(token_hash=token_hash, site_id=site_id, key_id=key_id, expires_at=expires_at)
    )
    session.flush()


def delete_tokens(session: Session, site_id: UUID) -> None:
    session.execute(delete(SiteToken).where(SiteToken.site_id == site_id))


def last_seen(session: Session, site_id: UUID) -> datetime | None:
    return session.execute(_LAST_SEEN, {"site_id": site_id}).scalar_one()


def touch(
    session: Session,
    site_id: UUID,
    *,
    previous: datetime | None,
    **columns: Any,  # noqa: ANN401
) -> bool:
    """Write `columns`; False when somebody has noted the site since `previous` was read."""
    statement = (
        update(Site)
        .where(Site.id == site_id, Site.last_seen_at.is_not_distinct_from(previous))
        .values(**columns)
        .returning(Site.id)
    )
    return session.scalars(statement).one_or_none() is not None


def _with_fingerprint() -> Select[tuple[Site, str]]:
    return select(Site, SiteKey.fingerprint).join(
        SiteKey, (SiteKey.site_id == Site.id) & SiteKey.retired_at.is_(None)
    )
