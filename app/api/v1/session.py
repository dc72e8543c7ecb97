"""Logging in and out: with a bearer token, or with a cookie that no script can read."""

from datetime import datetime
from typing import Literal, TypedDict

from fastapi import APIRouter, Response, status

from app.api.auth import SESSION_COOKIE
from app.api.dependencies import (
    ClientAddress,
    CurrentPerson,
    Now,
    SettingsDep,
    TransactionsDep,
)
from app.api.problems import problems
from app.domain.errors import ForbiddenError, NotAuthenticatedError
from app.services import audit, passwords, sessions, users
from app.services.transactions import Transactions
from app.settings import Settings
from hansa_core import wire

router = APIRouter(prefix="/v1/session", tags=["session"])


@router.post("", status_code=status.HTTP_201_CREATED, responses=problems(NotAuthenticatedError))
def log_in(
    login: wire.Login,
    address: ClientAddress,
    transactions: TransactionsDep,
    settings: SettingsDep,
    now: Now,
) -> wire.Session:
    """Exchange address and password for a session token."""
    return _open(login, address, transactions, hours=settings.session_hours, now=now)


@router.post(
    "/cookie", status_code=status.HTTP_201_CREATED, responses=problems(NotAuthenticatedError)
)
def log_in_by_cookie(
    login: wire.Login,
    response: Response,
    address: ClientAddress,
    transactions: TransactionsDep,
    settings: SettingsDep,
    now: Now,
) -> wire.CookieSession:
    """Exchange address and password for a session whose token is in the cookie `hansa_session`.

    For browsers: the token is in no answer, so no script can take it along.
    """
    session = _open(login, address, transactions, hours=settings.session_hours, now=now)
    left = round((session.expires_at - now).total_seconds())
    response.set_cookie(
        SESSION_COOKIE, session.token, max_age=left, **_attributes_of_cookie(settings)
    )
    response.headers["Cache-Control"] = "no-store"
    return wire.CookieSession(expires_at=session.expires_at, user=session.user)


@router.get("", responses=problems(NotAuthenticatedError, ForbiddenError))
def get_session(principal: CurrentPerson, transactions: TransactionsDep) -> wire.User:
    """Tell who is logged in."""
    with transactions.begin("get_session") as tx:
        return users.get(tx, principal, principal.user_id)


@router.delete(
    "", status_code=status.HTTP_204_NO_CONTENT, responses=problems(NotAuthenticatedError)
)
def log_out(
    principal: CurrentPerson,
    response: Response,
    transactions: TransactionsDep,
    settings: SettingsDep,
    now: Now,
) -> None:
    """Revoke the token in use, and clear the cookie."""
    with transactions.begin("log_out", by=principal.actor) as tx:
        sessions.close(tx, principal, now=now)
    response.delete_cookie(SESSION_COOKIE, **_attributes_of_cookie(settings))


class _CookieAttributes(TypedDict):
    path: str
    secure: bool
    httponly: bool
    samesite: Literal["strict"]


def _attributes_of_cookie(settings: Settings) -> _CookieAttributes:
    return {
        "path": settings.path_prefix or "/",
        "secure": settings.is_public_over_tls,
        "httponly": True,
        "samesite": "strict",
    }


def _open(
    login: wire.Login,
    address: str | None,
    transactions: Transactions,
    *,
    hours: float,
    now: datetime,
) -> wire.Session:
    """Open a session. The password is compared between two transactions, also for nobody's address.

    Raises:
        NotAuthenticatedError: no account has this address and password.
    """
    with transactions.begin("find_login") as tx:
        stored = sessions.find_login(tx, login.email)
    matches = passwords.matches(stored.password_hash if stored else None, login.password)
    who = sessions.claimant(stored, address)
    if stored is None or not matches:
        with transactions.begin("note_refusal", by=who) as tx:
            audit.note_refused_login(tx, now=now)
        raise NotAuthenticatedError(sessions.WRONG_LOGIN)
    with transactions.begin("open_session", by=who) as tx:
        return sessions.open_session(tx, stored, now=now, hours=hours)
