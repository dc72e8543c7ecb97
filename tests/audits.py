"""Reading and damaging the audit log of a hub under test."""

from uuid import UUID

from sqlalchemy import text

from app.db import audit as rows
from app.services.transactions import Transactions
from hansa_core.audit import Entry, Sealed, read_entry


def sealed_of(transactions: Transactions, federation_id: UUID | None) -> list[Sealed]:
    """Return a chain as it is stored, oldest first. None: the hub's."""
    with transactions.reading() as tx:
        found = rows.after(tx.session, federation_id, number=0, upto=2**31, limit=10_000)
    return [sealed for _, sealed in found]


def entries_of(transactions: Transactions, federation_id: UUID | None) -> list[Entry]:
    """Return what the entries of a chain say, oldest first."""
    return [read_entry(sealed.body) for sealed in sealed_of(transactions, federation_id)]


def actions_of(transactions: Transactions, federation_id: UUID | None) -> list[str]:
    """Return the actions of a chain, oldest first."""
    return [entry.action for entry in entries_of(transactions, federation_id)]


def tamper(transactions: Transactions, statement: str, **values: object) -> None:
    """Do to the log what only the database's owner can: with its trigger off."""
    with transactions.begin("tamper") as tx:
        tx.session.execute(text("ALTER TABLE audit_entries DISABLE TRIGGER USER"))
        tx.session.execute(text(statement), values)
        tx.session.execute(text("ALTER TABLE audit_entries ENABLE TRIGGER USER"))
