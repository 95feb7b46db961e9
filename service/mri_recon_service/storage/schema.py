"""Bring a database to the version of the tables that this package knows.

Every process does it when it starts, one after the other, under an advisory lock of PostgreSQL. A migration adds to the
tables so that processes of the version before go on beside it.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from mri_recon.errors import ConfigError

__all__ = ["VERSION_TABLE", "upgrade"]

VERSION_TABLE = "mri_recon_version"
_LOCK = 0x6D7269


def upgrade(connection: Connection) -> None:
    """Make the tables, or bring them to this package's version, in the transaction of a connection.

    Raises:
        ConfigError: a newer version of this package made them.
    """
    connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
    config.attributes["connection"] = connection
    known = {one.revision for one in ScriptDirectory.from_config(config).walk_revisions()}
    there = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE}).get_current_revision()
    if there is not None and there not in known:
        raise ConfigError(
            f"expected a store of jobs of version {max(known)} at most, got {there}: a newer mri-recon made it; use "
            "that one, or another database by MRI_RECON_STORE"
        )
    command.upgrade(config, "head")
