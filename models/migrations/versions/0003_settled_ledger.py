"""Settled hours and decisions side by side with a shadow and hindsight; a mode for each service."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

_FLEETS = ("fleet", "planned", "shadow", "hindsight")
_AMOUNTS = [f"{fleet}_{what}" for fleet in _FLEETS for what in ("usd", "slo_minutes", "miss_usd")]
_AMOUNTS += ["saved_usd", "regret_usd", "would_save_usd"]


def upgrade() -> None:
    """Applies the change."""
    op.create_table(
        "decision_settlement",
        *(sa.Column(name, sa.Float(), nullable=True) for name in _AMOUNTS),
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("service", sa.String(), nullable=False),
        sa.Column("plan_id", sa.String(), nullable=False),
        sa.Column("hour", sa.DateTime(timezone=True), nullable=False),
        sa.Column("from_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("to_at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sa.UniqueConstraint("plan_id", "hour"),
    )
    op.create_index(op.f("ix_decision_settlement_hour"), "decision_settlement", ["hour"], unique=False)
    op.create_index(op.f("ix_decision_settlement_plan_id"), "decision_settlement", ["plan_id"], unique=False)
    op.create_index(op.f("ix_decision_settlement_service"), "decision_settlement", ["service"], unique=False)
    with op.batch_alter_table("settlement") as table:
        for name in [*_AMOUNTS, "slo_minutes"]:
            table.add_column(sa.Column(name, sa.Float(), nullable=True))
        table.add_column(sa.Column("unknown_minutes", sa.Integer(), nullable=True))
        table.add_column(sa.Column("mode", sa.String(), nullable=False, server_default="act"))
        table.add_column(sa.Column("planner_led", sa.Boolean(), nullable=False, server_default=sa.true()))
        table.add_column(sa.Column("overridden", sa.Boolean(), nullable=False, server_default=sa.false()))
        table.add_column(sa.Column("authority", sa.JSON(), nullable=False, server_default="{}"))
        table.add_column(sa.Column("notes", sa.String(), nullable=False, server_default=""))
    with op.batch_alter_table("plan") as table:
        table.add_column(sa.Column("mode", sa.String(), nullable=False, server_default="act"))
        table.add_column(sa.Column("would_change", sa.JSON(), nullable=True))
        table.add_column(sa.Column("would_by_offer", sa.JSON(), nullable=True))
    with op.batch_alter_table("service") as table:
        table.add_column(sa.Column("mode_author", sa.String(), nullable=False, server_default=""))
        table.add_column(sa.Column("mode_reason", sa.String(), nullable=False, server_default=""))
        table.add_column(sa.Column("mode_at", sa.DateTime(timezone=True), nullable=True))


def downgrade() -> None:
    """Takes it back."""
    with op.batch_alter_table("service") as table:
        for name in ("mode_at", "mode_reason", "mode_author"):
            table.drop_column(name)
    with op.batch_alter_table("plan") as table:
        for name in ("would_by_offer", "would_change", "mode"):
            table.drop_column(name)
    with op.batch_alter_table("settlement") as table:
        for name in ("notes", "authority", "overridden", "planner_led", "mode", "unknown_minutes", "slo_minutes"):
            table.drop_column(name)
        for name in reversed(_AMOUNTS):
            table.drop_column(name)
    op.drop_table("decision_settlement")
