"""Finds the migrations that belong to this code."""

from alembic.config import Config
from alembic.script import ScriptDirectory

from app.embedded.errors import StackError
from app.embedded.stack import CHECKOUT


def alembic_config() -> Config:
    """Return alembic's configuration of this checkout.

    Raises:
        StackError: alembic.ini is not beside the app package.
    """
    path = CHECKOUT / "alembic.ini"
    if not path.is_file():
        raise StackError(f"{path} is missing; install the hub with pip install -e from a checkout")
    return Config(path)


def newest_revision() -> str | None:
    """Return the revision that `hansa-hub migrate` leads to."""
    return ScriptDirectory.from_config(alembic_config()).get_current_head()
