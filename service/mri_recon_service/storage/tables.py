"""Name the tables of the PostgreSQL store. The migrations in `migrations/` make them; a test compares the two."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    ForeignKey,
    Identity,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
    text,
)

__all__ = ["deliveries", "events", "jobs", "metadata", "owners"]

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "fk": "fk_%(table_name)s",
    }
)

_ZERO, _EMPTY, _FALSE = text("0"), text("''"), text("false")

owners = Table(
    "owners",
    metadata,
    Column("id", Text, primary_key=True),
    Column("until", DateTime(timezone=True), nullable=False, comment="end of the lease; -infinity: taken, for ever"),
)

jobs = Table(
    "jobs",
    metadata,
    Column("seq", BigInteger, Identity(always=True), primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("kind", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("request", Text, nullable=False),  # JSON as text: jsonb refuses the escape of NUL, which names may have
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("finished", Double),
    Column("expires", Double),
    Column("deadline", Double),
    Column("batch_key", Text),
    Column("memory", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False, server_default=_ZERO),
    Column("owner", Text),
    Column("run", Text, nullable=False, server_default=_EMPTY, comment="the last claim"),
    Column("stop", Boolean, nullable=False, server_default=_FALSE),
    Column("key", Text),
    Column("fingerprint", Text, nullable=False),
    Column("request_id", Text, nullable=False),
    Column("progress", Text),
    Column("problem", Text),
    Column("expired", Boolean, nullable=False, server_default=_FALSE),
    Column("began", Text),
    Column("suspected", Boolean, nullable=False, server_default=_FALSE),
    Column("disk_bytes", BigInteger, nullable=False, server_default=_ZERO),
    UniqueConstraint("client", "key"),
    Index("jobs_by_status", "status", "seq"),
    Index("jobs_by_client", "client", "status"),
    Index("jobs_by_expiry", "expires"),
)

events = Table(
    "events",
    metadata,
    Column("id", BigInteger, Identity(always=True), primary_key=True),
    Column("job", Text, ForeignKey("jobs.id", ondelete="CASCADE"), nullable=False),
    Column("kind", Text, nullable=False),
    Column("data", Text, nullable=False),
    Index("events_by_job", "job", "id"),
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("job", Text, ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True),
    Column("target", Text, nullable=False),
    Column("state", Text, nullable=False, server_default=text("'waiting'")),
    Column("attempts", Integer, nullable=False, server_default=_ZERO),
    Column("stored", Integer, nullable=False, server_default=_ZERO),
    Column("instances", Integer, nullable=False, server_default=_ZERO),
    Column("reason", Text, nullable=False, server_default=_EMPTY),
    Column("due", Double),
    Column("ended", Double),
    Column("sender", Text),
    Column("claim", Text, nullable=False, server_default=_EMPTY, comment="the last claim"),
    Index("deliveries_by_state", "state", "due"),
)
