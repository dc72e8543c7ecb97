"""Logging in and out."""

from fastapi import APIRouter, status

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
    """Exchange address and password for a session token.

    The password is compared between two transactions, and for an unknown address as well.
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
        return sessions.open_session(tx, stored, now=now, hours=settings.session_hours)


@router.get("", responses=problems(NotAuthenticatedError, ForbiddenError))
def get_session(principal: CurrentPerson, transactions: TransactionsDep) -> wire.User:
    """Tell who is logged in."""
    with transactions.begin("get_session") as tx:
        return users.get(tx, principal, principal.user_id)


@router.delete(
    "", status_code=status.HTTP_204_NO_CONTENT, responses=problems(NotAuthenticatedError)
)
def log_out(principal: CurrentPerson, transactions: TransactionsDep, now: Now) -> None:
    """Revoke the token in use."""
    with transactions.begin("log_out", by=principal.actor) as tx:
        sessions.close(tx, principal, now=now)
