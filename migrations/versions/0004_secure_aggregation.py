"""secure aggregation: rosters, duties, what secure rounds have beside others

Only adds and widens, so that a hub and workers of the version before go on working beside it: they
have no secure runs.

Revises: 0003
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None

OPEN_BEFORE = ("collecting", "aggregating")
OPEN = ("setup", "collecting", "signing", "opening", "aggregating")
CLOSED = ("completed", "failed", "cancelled")


def upgrade() -> None:
    op.create_table(
        "rosters",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("federation_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=True),
        sa.Column("digest", sa.Text(), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("confirmed_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "state IN ('gathering', 'confirming', 'in-force', 'ended')",
            name=op.f("ck_rosters_state_known"),
        ),
        sa.ForeignKeyConstraint(
            ["federation_id"], ["federations.id"], name=op.f("fk_rosters_federation_id")
        ),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_rosters_round_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_rosters_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_rosters")),
        sa.UniqueConstraint("run_id", "version", name=op.f("uq_rosters_run_id_version")),
    )
    op.create_index("ix_rosters_digest", "rosters", ["digest"])
    op.create_index(op.f("ix_rosters_round_id"), "rosters", ["round_id"])
    op.create_table(
        "duties",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("roster_id", sa.Uuid(), nullable=False),
        sa.Column("site_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("key_id", sa.Uuid(), nullable=True),
        sa.Column("message", sa.Text(), nullable=True),
        sa.Column("signature", sa.LargeBinary(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("answered_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "kind IN ('keys', 'confirm', 'sign', 'open')", name=op.f("ck_duties_kind_known")
        ),
        sa.CheckConstraint(
            "state IN ('open', 'done', 'refused', 'closed')", name=op.f("ck_duties_state_known")
        ),
        sa.ForeignKeyConstraint(["key_id"], ["site_keys.id"], name=op.f("fk_duties_key_id")),
        sa.ForeignKeyConstraint(["roster_id"], ["rosters.id"], name=op.f("fk_duties_roster_id")),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_duties_round_id")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_duties_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_duties")),
        sa.UniqueConstraint(
            "round_id",
            "roster_id",
            "site_id",
            "kind",
            name=op.f("uq_duties_round_id_roster_id_site_id_kind"),
        ),
    )
    op.create_index(
        "ix_duties_open", "duties", ["site_id", "id"], postgresql_where=sa.text("state = 'open'")
    )
    op.create_index(op.f("ix_duties_roster_id"), "duties", ["roster_id"])
    op.create_table(
        "secure_rounds",
        sa.Column("round_id", sa.Uuid(), nullable=False),
        sa.Column("federation_id", sa.Uuid(), nullable=False),
        sa.Column("roster_id", sa.Uuid(), nullable=False),
        sa.Column("header", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("ranges", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("survivors", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("openings_wanted", sa.BigInteger(), nullable=True),
        sa.Column("transcript", sa.Text(), nullable=True),
        sa.Column("summed", sa.Text(), nullable=True),
        sa.Column(
            "summed_parts",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'{}'"),
            nullable=False,
        ),
        sa.Column("totals", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
        sa.ForeignKeyConstraint(
            ["federation_id", "summed"],
            ["artifacts.federation_id", "artifacts.digest"],
            name=op.f("fk_secure_rounds_federation_id_summed"),
        ),
        sa.ForeignKeyConstraint(
            ["federation_id", "transcript"],
            ["artifacts.federation_id", "artifacts.digest"],
            name=op.f("fk_secure_rounds_federation_id_transcript"),
        ),
        sa.ForeignKeyConstraint(
            ["federation_id"], ["federations.id"], name=op.f("fk_secure_rounds_federation_id")
        ),
        sa.ForeignKeyConstraint(
            ["roster_id"], ["rosters.id"], name=op.f("fk_secure_rounds_roster_id")
        ),
        sa.ForeignKeyConstraint(
            ["round_id"], ["rounds.id"], name=op.f("fk_secure_rounds_round_id")
        ),
        sa.PrimaryKeyConstraint("round_id", name=op.f("pk_secure_rounds")),
    )
    _allow_open(OPEN)


def downgrade() -> None:
    op.drop_table("secure_rounds")
    op.drop_table("duties")
    op.drop_table("rosters")
    op.execute(
        "UPDATE rounds SET state = 'cancelled', closed_at = now() "
        "WHERE state IN ('setup', 'signing', 'opening')"
    )
    _allow_open(OPEN_BEFORE)


def _allow_open(states: tuple[str, ...]) -> None:
    op.drop_constraint(op.f("ck_rounds_state_known"), "rounds", type_="check")
    op.create_check_constraint(
        op.f("ck_rounds_state_known"), "rounds", f"state IN ({_listed(states + CLOSED)})"
    )
    op.drop_index("uq_rounds_open", table_name="rounds")
    op.create_index(
        "uq_rounds_open",
        "rounds",
        ["run_id"],
        unique=True,
        postgresql_where=sa.text(f"state IN ({_listed(states)})"),
    )


def _listed(states: tuple[str, ...]) -> str:
    return ", ".join(f"'{state}'" for state in states)
