"""Keys with teams, limits and rotation; budgets with their balances, leases and journals; requests in every unit."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    connection = op.get_bind()
    with op.batch_alter_table("keys") as batch:
        batch.add_column(sa.Column("scopes", sa.JSON, nullable=False, server_default="[]"))
        batch.add_column(sa.Column("routes", sa.JSON, nullable=False, server_default="[]"))
        batch.add_column(sa.Column("addresses", sa.JSON, nullable=False, server_default="[]"))
        batch.add_column(sa.Column("team", sa.String, nullable=False, server_default=""))
        batch.add_column(sa.Column("user", sa.String, nullable=False, server_default=""))
        batch.add_column(sa.Column("limits", sa.JSON, nullable=False, server_default="{}"))
        batch.add_column(sa.Column("log_bodies", sa.Boolean, nullable=False, server_default=sa.false()))
        batch.add_column(sa.Column("old_prefix", sa.String))
        batch.add_column(sa.Column("old_digest", sa.String))
        batch.add_column(sa.Column("old_until", sa.Float))
        batch.create_unique_constraint("uq_keys_old_prefix", ["old_prefix"])
    keys = sa.table("keys", sa.column("scope"), sa.column("scopes", sa.JSON))
    for scope in ("infer", "admin"):
        connection.execute(keys.update().where(keys.c.scope == scope).values(scopes=[scope]))
    with op.batch_alter_table("keys") as batch:
        batch.drop_column("scope")
    op.create_table(
        "aliases",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("alias", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("actor", sa.String(), nullable=False),
        sa.Column("action", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("reason", sa.String(), nullable=False),
        sa.Column("detail", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_audit_at"), "audit", ["at"], unique=False)
    op.create_table(
        "balances",
        sa.Column("budget_id", sa.String(), nullable=False),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.Column("spent", sa.BigInteger(), nullable=False),
        sa.Column("leased", sa.BigInteger(), nullable=False),
        sa.Column("extra", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("budget_id", "began"),
    )
    op.create_table(
        "bodies",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("at", sa.Float(), nullable=False),
        sa.Column("key_id", sa.String(), nullable=False),
        sa.Column("request", sa.String(), nullable=False),
        sa.Column("response", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_bodies_at"), "bodies", ["at"], unique=False)
    op.create_table(
        "budgets",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("subject", sa.String(), nullable=False),
        sa.Column("unit", sa.String(), nullable=False),
        sa.Column("cap", sa.BigInteger(), nullable=False),
        sa.Column("period", sa.String(), nullable=False),
        sa.Column("soft", sa.Float(), nullable=False),
        sa.Column("hard", sa.Boolean(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index(op.f("ix_budgets_subject"), "budgets", ["subject"], unique=False)
    op.create_table(
        "installation",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("value", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("key"),
    )
    op.create_table(
        "journals",
        sa.Column("gateway_id", sa.String(), nullable=False),
        sa.Column("applied", sa.BigInteger(), nullable=False),
        sa.Column("seen_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("gateway_id"),
    )
    op.create_table(
        "leases",
        sa.Column("gateway_id", sa.String(), nullable=False),
        sa.Column("budget_id", sa.String(), nullable=False),
        sa.Column("began", sa.BigInteger(), nullable=False),
        sa.Column("granted", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("gateway_id", "budget_id", "began"),
    )
    op.create_table(
        "teams",
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("limits", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.Float(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    with op.batch_alter_table("requests") as batch:
        batch.alter_column("prompt_tokens", new_column_name="input_tokens", type_=sa.BigInteger)
        batch.alter_column("completion_tokens", new_column_name="output_tokens", type_=sa.BigInteger)
        batch.alter_column("cached_tokens", type_=sa.BigInteger)
        for name in ("request_id", "team", "user", "model"):
            batch.add_column(sa.Column(name, sa.String, nullable=False, server_default=""))
        for name in ("reasoning_tokens", "audio_ms", "characters", "images", "gpu_ms", "money_nano"):
            batch.add_column(sa.Column(name, sa.BigInteger, nullable=False, server_default="0"))
        for name in ("stream", "estimated"):
            batch.add_column(sa.Column(name, sa.Boolean, nullable=False, server_default=sa.false()))
        for name in ("key_id", "service_id"):
            batch.drop_index(f"ix_requests_{name}")


def downgrade() -> None:
    raise NotImplementedError("what 0003 keeps has no place in 0002; use a copy of the older store")
