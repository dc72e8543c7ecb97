"""pauses, retries, buffered rounds, receipts, the audit log, alerts, retention

Only adds and widens, so that a hub and workers of the version before go on working beside it.

Revises: 0001
"""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

STATES = ("draft", "queued", "running", "completed", "failed", "cancelled")
APPEND_ONLY = ("audit_entries", "receipts")


def upgrade() -> None:
    op.create_table(
        "marks",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("name", name=op.f("pk_marks")),
    )
    op.create_table(
        "audit_entries",
        sa.Column("id", sa.BigInteger(), sa.Identity(always=False), nullable=False),
        sa.Column("federation_id", sa.Uuid(), nullable=True),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(
            ["federation_id"], ["federations.id"], name=op.f("fk_audit_entries_federation_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit_entries")),
        sa.UniqueConstraint(
            "federation_id",
            "number",
            name=op.f("uq_audit_entries_federation_id_number"),
            postgresql_nulls_not_distinct=True,
        ),
    )
    op.create_index(
        "ix_audit_entries_federation_id_actor",
        "audit_entries",
        ["federation_id", "actor"],
        unique=False,
    )
    op.create_table(
        "channels",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("federation_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("target", sa.Text(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=True),
        sa.Column("events", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("cursor", sa.BigInteger(), nullable=False),
        sa.Column("failures", sa.BigInteger(), nullable=False),
        sa.Column("failing_since", sa.DateTime(timezone=True), nullable=True),
        sa.Column("next_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("last_error", sa.Text(), nullable=True),
        sa.Column("last_success_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("lease_token", sa.Uuid(), nullable=True),
        sa.Column("lease_expires_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("created_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("kind IN ('webhook', 'email')", name=op.f("ck_channels_kind_known")),
        sa.ForeignKeyConstraint(["created_by"], ["users.id"], name=op.f("fk_channels_created_by")),
        sa.ForeignKeyConstraint(
            ["federation_id"], ["federations.id"], name=op.f("fk_channels_federation_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_channels")),
    )
    op.create_index(op.f("ix_channels_federation_id"), "channels", ["federation_id"], unique=False)
    op.create_table(
        "alerts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("federation_id", sa.Uuid(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("severity", sa.Text(), nullable=False),
        sa.Column("message", sa.Text(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=True),
        sa.Column("site_id", sa.Uuid(), nullable=True),
        sa.Column("count", sa.BigInteger(), nullable=False),
        sa.Column("raised_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("last_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("resolved_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("acknowledged_by", sa.Uuid(), nullable=True),
        sa.CheckConstraint(
            "severity IN ('info', 'warning', 'critical')", name=op.f("ck_alerts_severity_known")
        ),
        sa.ForeignKeyConstraint(
            ["acknowledged_by"], ["users.id"], name=op.f("fk_alerts_acknowledged_by")
        ),
        sa.ForeignKeyConstraint(
            ["federation_id"], ["federations.id"], name=op.f("fk_alerts_federation_id")
        ),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_alerts_run_id")),
        sa.ForeignKeyConstraint(["site_id"], ["sites.id"], name=op.f("fk_alerts_site_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_alerts")),
    )
    op.create_index(
        "uq_alerts_open",
        "alerts",
        ["federation_id", "kind", "subject"],
        unique=True,
        postgresql_where=sa.text("resolved_at IS NULL"),
    )
    op.create_table(
        "receipts",
        sa.Column("id", sa.Uuid(), nullable=False),
        sa.Column("federation_id", sa.Uuid(), nullable=False),
        sa.Column("run_id", sa.Uuid(), nullable=False),
        sa.Column("round_id", sa.Uuid(), nullable=True),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("signature", sa.LargeBinary(), nullable=False),
        sa.Column("public_key", sa.LargeBinary(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.CheckConstraint("digest ~ '^[0-9a-f]{64}$'", name=op.f("ck_receipts_digest_sha256")),
        sa.ForeignKeyConstraint(
            ["federation_id"], ["federations.id"], name=op.f("fk_receipts_federation_id")
        ),
        sa.ForeignKeyConstraint(["round_id"], ["rounds.id"], name=op.f("fk_receipts_round_id")),
        sa.ForeignKeyConstraint(["run_id"], ["runs.id"], name=op.f("fk_receipts_run_id")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_receipts")),
        sa.UniqueConstraint("digest", name=op.f("uq_receipts_digest")),
        sa.UniqueConstraint("round_id", name=op.f("uq_receipts_round_id")),
        sa.UniqueConstraint("run_id", "number", name=op.f("uq_receipts_run_id_number")),
    )
    op.create_table(
        "receipt_holds",
        sa.Column("receipt_id", sa.Uuid(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("held_by", sa.Uuid(), nullable=False),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
        sa.ForeignKeyConstraint(["held_by"], ["users.id"], name=op.f("fk_receipt_holds_held_by")),
        sa.ForeignKeyConstraint(
            ["receipt_id"], ["receipts.id"], name=op.f("fk_receipt_holds_receipt_id")
        ),
        sa.PrimaryKeyConstraint("receipt_id", name=op.f("pk_receipt_holds")),
    )
    op.add_column("artifacts", sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True))
    for table in ("updates", "checkpoints"):  # what names an artifact
        op.create_index(f"ix_{table}_federation_id_digest", table, ["federation_id", "digest"])
    op.add_column(
        "federations",
        sa.Column("retention", postgresql.JSONB(astext_type=sa.Text()), nullable=True),
    )
    op.add_column("rounds", sa.Column("retry", sa.BigInteger(), server_default="0", nullable=False))
    op.add_column("rounds", sa.Column("target", sa.BigInteger(), nullable=True))
    op.add_column(
        "rounds",
        sa.Column(
            "excluded",
            postgresql.JSONB(astext_type=sa.Text()),
            server_default=sa.text("'[]'"),
            nullable=False,
        ),
    )
    op.drop_constraint(op.f("uq_rounds_run_id_number"), "rounds", type_="unique")
    op.create_unique_constraint(
        op.f("uq_rounds_run_id_number_retry"), "rounds", ["run_id", "number", "retry"]
    )
    op.add_column("runs", sa.Column("parent_run_id", sa.Uuid(), nullable=True))
    op.add_column(
        "runs", sa.Column("pausing", sa.Boolean(), server_default=sa.text("false"), nullable=False)
    )
    op.add_column("runs", sa.Column("stop_reason", sa.Text(), nullable=True))
    op.add_column(
        "runs", sa.Column("bytes_moved", sa.BigInteger(), server_default="0", nullable=False)
    )
    op.add_column(
        "runs", sa.Column("active_seconds", sa.Float(), server_default="0", nullable=False)
    )
    op.add_column("runs", sa.Column("active_since", sa.DateTime(timezone=True), nullable=True))
    op.create_foreign_key(op.f("fk_runs_parent_run_id"), "runs", "runs", ["parent_run_id"], ["id"])
    op.add_column("sites", sa.Column("admitted_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "tasks",
        sa.Column("evaluator", sa.Boolean(), server_default=sa.text("false"), nullable=False),
    )
    op.add_column("tasks", sa.Column("repeat", sa.BigInteger(), server_default="1", nullable=False))
    op.drop_constraint(op.f("uq_tasks_round_id_site_id"), "tasks", type_="unique")
    op.create_unique_constraint(
        op.f("uq_tasks_round_id_site_id_repeat"), "tasks", ["round_id", "site_id", "repeat"]
    )
    op.alter_column("updates", "round_id", existing_type=sa.UUID(), nullable=True)
    _allow_run_states((*STATES, "paused"))
    op.execute("UPDATE runs SET active_since = started_at WHERE state = 'running'")
    op.execute(
        """
        CREATE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN
            RAISE EXCEPTION 'rows of % are never changed or deleted', TG_TABLE_NAME;
        END
        $$
        """
    )
    for table in APPEND_ONLY:
        op.execute(
            f"CREATE TRIGGER {table}_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
            "FOR EACH STATEMENT EXECUTE FUNCTION refuse_change()"
        )


def downgrade() -> None:
    op.execute("UPDATE runs SET state = 'queued' WHERE state = 'paused'")
    _allow_run_states(STATES)
    op.alter_column("updates", "round_id", existing_type=sa.UUID(), nullable=False)
    op.drop_constraint(op.f("uq_tasks_round_id_site_id_repeat"), "tasks", type_="unique")
    op.create_unique_constraint(
        op.f("uq_tasks_round_id_site_id"),
        "tasks",
        ["round_id", "site_id"],
        postgresql_nulls_not_distinct=False,
    )
    op.drop_column("tasks", "repeat")
    op.drop_column("tasks", "evaluator")
    op.drop_constraint(op.f("fk_runs_parent_run_id"), "runs", type_="foreignkey")
    op.drop_column("sites", "admitted_at")
    op.drop_column("runs", "active_since")
    op.drop_column("runs", "active_seconds")
    op.drop_column("runs", "bytes_moved")
    op.drop_column("runs", "stop_reason")
    op.drop_column("runs", "pausing")
    op.drop_column("runs", "parent_run_id")
    op.drop_constraint(op.f("uq_rounds_run_id_number_retry"), "rounds", type_="unique")
    op.create_unique_constraint(
        op.f("uq_rounds_run_id_number"),
        "rounds",
        ["run_id", "number"],
        postgresql_nulls_not_distinct=False,
    )
    op.drop_column("rounds", "excluded")
    op.drop_column("rounds", "target")
    op.drop_column("rounds", "retry")
    op.drop_column("federations", "retention")
    op.drop_index("ix_checkpoints_federation_id_digest", table_name="checkpoints")
    op.drop_index("ix_updates_federation_id_digest", table_name="updates")
    op.drop_column("artifacts", "purged_at")
    op.drop_table("receipt_holds")
    op.drop_table("receipts")
    op.drop_index(
        "uq_alerts_open", table_name="alerts", postgresql_where=sa.text("resolved_at IS NULL")
    )
    op.drop_table("alerts")
    op.drop_index(op.f("ix_channels_federation_id"), table_name="channels")
    op.drop_table("channels")
    op.drop_index("ix_audit_entries_federation_id_actor", table_name="audit_entries")
    op.drop_table("audit_entries")
    op.drop_table("marks")
    op.execute("DROP FUNCTION refuse_change()")


def _allow_run_states(states: tuple[str, ...]) -> None:
    listed = ", ".join(f"'{state}'" for state in states)
    op.drop_constraint(op.f("ck_runs_state_known"), "runs", type_="check")
    op.create_check_constraint(op.f("ck_runs_state_known"), "runs", f"state IN ({listed})")
