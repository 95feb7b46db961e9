"""Make the tables of the first version."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

_ZERO, _EMPTY, _FALSE = sa.text("0"), sa.text("''"), sa.text("false")


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "owners",
        sa.Column("id", sa.Text),
        sa.Column(
            "until", sa.DateTime(timezone=True), nullable=False, comment="end of the lease; -infinity: taken, for ever"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_owners"),
    )
    op.create_table(
        "jobs",
        sa.Column("seq", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("client", sa.Text, nullable=False),
        sa.Column("status", sa.Text, nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("created", sa.Double, nullable=False),
        sa.Column("started", sa.Double),
        sa.Column("finished", sa.Double),
        sa.Column("expires", sa.Double),
        sa.Column("deadline", sa.Double),
        sa.Column("batch_key", sa.Text),
        sa.Column("memory", sa.BigInteger, nullable=False),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("owner", sa.Text),
        sa.Column("run", sa.Text, nullable=False, server_default=_EMPTY, comment="the last claim"),
        sa.Column("stop", sa.Boolean, nullable=False, server_default=_FALSE),
        sa.Column("key", sa.Text),
        sa.Column("fingerprint", sa.Text, nullable=False),
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("progress", sa.Text),
        sa.Column("problem", sa.Text),
        sa.Column("expired", sa.Boolean, nullable=False, server_default=_FALSE),
        sa.Column("began", sa.Text),
        sa.Column("suspected", sa.Boolean, nullable=False, server_default=_FALSE),
        sa.Column("disk_bytes", sa.BigInteger, nullable=False, server_default=_ZERO),
        sa.PrimaryKeyConstraint("seq", name="pk_jobs"),
        sa.UniqueConstraint("id", name="uq_jobs_id"),
        sa.UniqueConstraint("client", "key", name="uq_jobs_client"),
    )
    op.create_index("jobs_by_status", "jobs", ["status", "seq"])
    op.create_index("jobs_by_client", "jobs", ["client", "status"])
    op.create_index("jobs_by_expiry", "jobs", ["expires"])
    op.create_table(
        "events",
        sa.Column("id", sa.BigInteger, sa.Identity(always=True)),
        sa.Column("job", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("data", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_events"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_events", ondelete="CASCADE"),
    )
    op.create_index("events_by_job", "events", ["job", "id"])
    op.create_table(
        "deliveries",
        sa.Column("job", sa.Text),
        sa.Column("target", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, server_default=sa.text("'waiting'")),
        sa.Column("attempts", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("stored", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("instances", sa.Integer, nullable=False, server_default=_ZERO),
        sa.Column("reason", sa.Text, nullable=False, server_default=_EMPTY),
        sa.Column("due", sa.Double),
        sa.Column("ended", sa.Double),
        sa.Column("sender", sa.Text),
        sa.Column("claim", sa.Text, nullable=False, server_default=_EMPTY, comment="the last claim"),
        sa.PrimaryKeyConstraint("job", name="pk_deliveries"),
        sa.ForeignKeyConstraint(["job"], ["jobs.id"], name="fk_deliveries", ondelete="CASCADE"),
    )
    op.create_index("deliveries_by_state", "deliveries", ["state", "due"])
