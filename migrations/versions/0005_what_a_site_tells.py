"""what a site tells: the log of a failed task, the site's policy; an index of its history

Only adds, so that a hub and workers of the version before go on working beside it.

Revises: 0004
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("tasks", sa.Column("log", sa.Text(), nullable=True))
    op.add_column(
        "sites", sa.Column("policy", postgresql.JSONB(astext_type=sa.Text()), nullable=True)
    )
    op.create_index("ix_tasks_site_id_id", "tasks", ["site_id", "id"])


def downgrade() -> None:
    op.drop_index("ix_tasks_site_id_id", table_name="tasks")
    op.drop_column("sites", "policy")
    op.drop_column("tasks", "log")
