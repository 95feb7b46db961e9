"""Run the migrations on the connection that `mri_recon_service.storage.schema` gives. Alembic loads this file."""

from __future__ import annotations

from alembic import context

from mri_recon_service.storage.schema import VERSION_TABLE
from mri_recon_service.storage.tables import metadata

context.configure(
    connection=context.config.attributes["connection"], target_metadata=metadata, version_table=VERSION_TABLE
)
context.run_migrations()
