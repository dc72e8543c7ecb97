"""Fails unless the migrations lead an empty database to the tables of app/db/models.

Runs on a throw-away Postgres of its own. Goes all the way down and up again as well, so that a
downgrade that nobody tried does not wait for the night when it is needed. Limit: alembic compares
tables, columns, types, keys and indexes; CHECK constraints it does not, the tests meet those.
"""

import sys
import tempfile
from pathlib import Path

from alembic import command
from alembic.util import CommandError

from app.embedded import postgres
from app.embedded.migrations import alembic_config


def main() -> int:
    """Return the exit status: 1 when models and migrations differ."""
    config = alembic_config()
    with (
        tempfile.TemporaryDirectory(prefix="hansa-migrations-") as folder,
        postgres.running(Path(folder), ephemeral=True) as server,
    ):
        config.attributes["database_url"] = server.url
        command.upgrade(config, "head")
        command.downgrade(config, "base")
        command.upgrade(config, "head")
        try:
            command.check(config)
        except CommandError as error:
            print(f"migrations and app/db/models differ: {error}", file=sys.stderr)
            return 1
    print("migrations lead to the tables of app/db/models")
    return 0


if __name__ == "__main__":
    sys.exit(main())
