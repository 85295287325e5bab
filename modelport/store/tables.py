"""The tables. What each means is in the file that reads and writes it."""

import sqlalchemy as sa

metadata = sa.MetaData()

revision = sa.Table(
    "revision",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)

services = sa.Table(
    "services",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("name", sa.String, nullable=False, unique=True),
    sa.Column("spec", sa.JSON, nullable=False),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("desired", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False, default=""),
    sa.Column("port", sa.Integer, unique=True),
    sa.Column("plan", sa.JSON),
    sa.Column("failures", sa.Integer, nullable=False, default=0),
    sa.Column("retry_at", sa.Float),
    sa.Column("wake_at", sa.Float),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
)

instances = sa.Table(
    "instances",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("service_id", sa.String, nullable=False, index=True),
    sa.Column("version", sa.String, nullable=False),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False, default=""),
    sa.Column("platform", sa.String, nullable=False),
    sa.Column("engine", sa.String, nullable=False),
    sa.Column("port", sa.Integer, nullable=False),
    sa.Column("launch", sa.JSON, nullable=False),
    sa.Column("instance", sa.JSON),
    sa.Column("exit", sa.JSON),
    sa.Column("drain_revision", sa.BigInteger),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("changed_at", sa.Float, nullable=False),
    sa.Column("ready_at", sa.Float),
    sa.Column("progress", sa.JSON),
)

keys = sa.Table(
    "keys",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("prefix", sa.String, nullable=False, unique=True),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("name", sa.String, nullable=False),
    sa.Column("scopes", sa.JSON, nullable=False),
    sa.Column("models", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
    sa.Column("expires_at", sa.Float),
    sa.Column("revoked_at", sa.Float),
    sa.Column("routes", sa.JSON, nullable=False),
    sa.Column("addresses", sa.JSON, nullable=False),
    sa.Column("team", sa.String, nullable=False),
    sa.Column("user", sa.String, nullable=False),
    sa.Column("limits", sa.JSON, nullable=False),
    sa.Column("log_bodies", sa.Boolean, nullable=False),
    sa.Column("old_prefix", sa.String, unique=True),
    sa.Column("old_digest", sa.String),
    sa.Column("old_until", sa.Float),
)

teams = sa.Table(
    "teams",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("limits", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

aliases = sa.Table(
    "aliases",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("alias", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

workspaces = sa.Table(
    "workspaces",
    metadata,
    sa.Column("name", sa.String, primary_key=True),
    sa.Column("id", sa.String, nullable=False, unique=True),
    sa.Column("workspace", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

experiments = sa.Table(
    "experiments",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("experiment", sa.JSON, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

budgets = sa.Table(
    "budgets",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("subject", sa.String, nullable=False, index=True),
    sa.Column("unit", sa.String, nullable=False),
    sa.Column("cap", sa.BigInteger, nullable=False),
    sa.Column("period", sa.String, nullable=False),
    sa.Column("soft", sa.Float, nullable=False),
    sa.Column("hard", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Float, nullable=False),
)

balances = sa.Table(
    "balances",
    metadata,
    sa.Column("budget_id", sa.String, primary_key=True),
    sa.Column("began", sa.BigInteger, primary_key=True),
    sa.Column("spent", sa.BigInteger, nullable=False),
    sa.Column("leased", sa.BigInteger, nullable=False),
    sa.Column("extra", sa.BigInteger, nullable=False),
)

leases = sa.Table(
    "leases",
    metadata,
    sa.Column("gateway_id", sa.String, primary_key=True),
    sa.Column("budget_id", sa.String, primary_key=True),
    sa.Column("began", sa.BigInteger, primary_key=True),
    sa.Column("granted", sa.BigInteger, nullable=False),
)

journals = sa.Table(
    "journals",
    metadata,
    sa.Column("gateway_id", sa.String, primary_key=True),
    sa.Column("applied", sa.BigInteger, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
)

audit = sa.Table(
    "audit",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("at", sa.Float, nullable=False, index=True),
    sa.Column("actor", sa.String, nullable=False),
    sa.Column("action", sa.String, nullable=False),
    sa.Column("subject", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("detail", sa.JSON, nullable=False),
)

installation = sa.Table(
    "installation",
    metadata,
    sa.Column("key", sa.String, primary_key=True),
    sa.Column("value", sa.String, nullable=False),
)

bodies = sa.Table(
    "bodies",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("at", sa.Float, nullable=False, index=True),
    sa.Column("key_id", sa.String, nullable=False),
    sa.Column("request", sa.String, nullable=False),
    sa.Column("response", sa.String, nullable=False),
)

gateways = sa.Table(
    "gateways",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("url", sa.String, nullable=False),
    sa.Column("seen_at", sa.Float, nullable=False),
    sa.Column("revision", sa.BigInteger, nullable=False),
    sa.Column("busy", sa.JSON, nullable=False),
    sa.Column("problems", sa.JSON, nullable=False),
)

activity = sa.Table(
    "activity",
    metadata,
    sa.Column("service_id", sa.String, primary_key=True),
    sa.Column("last_request_at", sa.Float, nullable=False),
)

starts = sa.Table(
    "starts",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("model", sa.String, nullable=False, index=True),
    sa.Column("engine", sa.String, nullable=False),
    sa.Column("seconds", sa.Float, nullable=False),
    sa.Column("planned_bytes", sa.BigInteger),
    sa.Column("measured_bytes", sa.BigInteger),
    sa.Column("at", sa.Float, nullable=False),
    sa.Column("instance_id", sa.String, index=True),
    sa.Column("accelerators", sa.String),
    sa.Column("overhead_ratio", sa.Float),
    sa.Column("planned_kv_tokens", sa.BigInteger),
    sa.Column("measured_kv_tokens", sa.BigInteger),
)

requests = sa.Table(
    "requests",
    metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("at", sa.Float, nullable=False, index=True),
    sa.Column("request_id", sa.String, nullable=False),
    sa.Column("key_id", sa.String, nullable=False),
    sa.Column("team", sa.String, nullable=False),
    sa.Column("user", sa.String, nullable=False),
    sa.Column("service_id", sa.String, nullable=False),
    sa.Column("service", sa.String, nullable=False),
    sa.Column("instance_id", sa.String, nullable=False),
    sa.Column("model", sa.String, nullable=False),
    sa.Column("route", sa.String, nullable=False),
    sa.Column("status", sa.Integer, nullable=False),
    sa.Column("stream", sa.Boolean, nullable=False),
    sa.Column("input_tokens", sa.BigInteger, nullable=False),
    sa.Column("output_tokens", sa.BigInteger, nullable=False),
    sa.Column("cached_tokens", sa.BigInteger, nullable=False),
    sa.Column("reasoning_tokens", sa.BigInteger, nullable=False),
    sa.Column("audio_ms", sa.BigInteger, nullable=False),
    sa.Column("characters", sa.BigInteger, nullable=False),
    sa.Column("images", sa.BigInteger, nullable=False),
    sa.Column("gpu_ms", sa.BigInteger, nullable=False),
    sa.Column("money_nano", sa.BigInteger, nullable=False),
    sa.Column("estimated", sa.Boolean, nullable=False),
    sa.Column("queue_s", sa.Float, nullable=False),
    sa.Column("first_byte_s", sa.Float),
    sa.Column("total_s", sa.Float, nullable=False),
)
