"""Whether the parts that the hub needs are there."""

from app.db import engine
from app.services.transactions import Tx


def require_database(tx: Tx) -> None:
    """Touch the database.

    Raises:
        sqlalchemy.exc.OperationalError: it does not answer.
    """
    engine.ping(tx.session)
