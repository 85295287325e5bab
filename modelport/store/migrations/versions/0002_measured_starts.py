"""Starts say which instance they were of, on what, and what was planned and measured of the cache."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

COLUMNS = (
    ("instance_id", sa.String()),
    ("accelerators", sa.String()),
    ("overhead_ratio", sa.Float()),
    ("planned_kv_tokens", sa.BigInteger()),
    ("measured_kv_tokens", sa.BigInteger()),
)


def upgrade() -> None:
    for name, kind in COLUMNS:
        op.add_column("starts", sa.Column(name, kind, nullable=True))
    op.create_index(op.f("ix_starts_instance_id"), "starts", ["instance_id"], unique=False)


def downgrade() -> None:
    op.drop_index(op.f("ix_starts_instance_id"), table_name="starts")
    for name, _ in reversed(COLUMNS):
        op.drop_column("starts", name)
