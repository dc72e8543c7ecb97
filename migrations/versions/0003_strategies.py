"""server state, update parts, tensor groups, encoded updates, split aggregations

Only adds, so that a hub and workers of the version before go on working beside it.

Revises: 0002
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "checkpoint_slots",
        sa.Column("checkpoint_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("federation_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["checkpoint_id"], ["checkpoints.id"], name=op.f("fk_checkpoint_slots_checkpoint_id")
        ),
        sa.ForeignKeyConstraint(
            ["federation_id", "digest"],
            ["artifacts.federation_id", "artifacts.digest"],
            name=op.f("fk_checkpoint_slots_federation_id_digest"),
        ),
        sa.ForeignKeyConstraint(
            ["federation_id"], ["federations.id"], name=op.f("fk_checkpoint_slots_federation_id")
        ),
        sa.PrimaryKeyConstraint("checkpoint_id", "name", name=op.f("pk_checkpoint_slots")),
    )
    op.create_index(
        "ix_checkpoint_slots_federation_id_digest", "checkpoint_slots", ["federation_id", "digest"]
    )
    op.create_table(
        "update_parts",
        sa.Column("update_id", sa.Uuid(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("federation_id", sa.Uuid(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["federation_id", "digest"],
            ["artifacts.federation_id", "artifacts.digest"],
            name=op.f("fk_update_parts_federation_id_digest"),
        ),
        sa.ForeignKeyConstraint(
            ["federation_id"], ["federations.id"], name=op.f("fk_update_parts_federation_id")
        ),
        sa.ForeignKeyConstraint(
            ["update_id"], ["updates.id"], name=op.f("fk_update_parts_update_id")
        ),
        sa.PrimaryKeyConstraint("update_id", "name", name=op.f("pk_update_parts")),
    )
    op.create_index(
        "ix_update_parts_federation_id_digest", "update_parts", ["federation_id", "digest"]
    )
    op.create_table(
        "aggregation_parts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("stage", sa.BigInteger(), nullable=False),
        sa.Column("index", sa.BigInteger(), nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("attempts", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("result", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.id"], name=op.f("fk_aggregation_parts_round_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_aggregation_parts")),
        sa.UniqueConstraint(
            "round_id", "stage", "index", name=op.f("uq_aggregation_parts_round_id_stage_index")
        ),
    )
    op.add_column("artifacts", sa.Column("encoding", sa.Text(), nullable=True))
    op.add_column("rounds", sa.Column("population", sa.BigInteger(), nullable=True))
    op.add_column(
        "tasks",
        sa.Column(
            "groups",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
    )


def downgrade() -> None:
    op.drop_column("tasks", "groups")
    op.drop_column("rounds", "population")
    op.drop_column("artifacts", "encoding")
    op.drop_table("aggregation_parts")
    op.drop_table("update_parts")
    op.drop_table("checkpoint_slots")
