"""Open what the settings choose: the store of jobs, their files, and this process's place among their owners."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

from mri_recon.errors import ConfigError
from mri_recon_service.private_files import private_folder
from mri_recon_service.settings import Settings
from mri_recon_service.storage.file_store import FileStore
from mri_recon_service.storage.files import JobFiles
from mri_recon_service.storage.ownership import Ownership, unusable_folder
from mri_recon_service.storage.sqlite import SqliteStore
from mri_recon_service.storage.store import JobStore, Owner

__all__ = ["STORE_FILE", "check_data_folder", "data_folder", "open_files", "open_owner", "open_store"]

STORE_FILE = "jobs.sqlite"
_FILES, _OWNERS = "jobs", "owners"
_CLUSTER = ("sqlalchemy", "psycopg", "alembic")


def data_folder(settings: Settings) -> Path:
    """Return the data folder of the settings, which may not exist."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return settings.data_dir or Path(state) / "mri-recon"


def open_store(settings: Settings) -> JobStore:
    """Open the store of jobs, a PostgreSQL database or a file in the data folder, and make it if it does not exist.

    Raises:
        ConfigError: the database or the folder cannot be used.
    """
    if settings.store is None:
        return SqliteStore(_made(settings) / STORE_FILE)
    if not all(map(find_spec, _CLUSTER)):
        raise _packages_missing("MRI_RECON_STORE")
    from mri_recon_service.storage.database import Database
    from mri_recon_service.storage.postgres import PostgresStore

    return PostgresStore(Database(settings.store.get_secret_value()))


def open_files(settings: Settings) -> FileStore:
    """Open the files of jobs, in a bucket or in the data folder.

    Raises:
        ConfigError: the bucket or the folder cannot be used.
    """
    if settings.bucket is not None:
        if find_spec("obstore") is None:
            raise _packages_missing("MRI_RECON_BUCKET")
        from mri_recon_service.storage.objects import ObjectFiles

        return ObjectFiles(
            settings.bucket,
            endpoint=settings.bucket_endpoint,
            public_endpoint=settings.bucket_public_endpoint,
            address_seconds=settings.bucket_address_seconds,
            folder=settings.upload_folder,
            most_bytes=settings.max_stored_bytes,
        )
    return JobFiles(_made(settings) / _FILES, most_bytes=settings.max_stored_bytes)


def open_owner(settings: Settings) -> Owner:
    """Show the other processes of the store, which has been opened before, that this one is alive.

    Raises:
        ConfigError: the folder cannot be used.
    """
    if settings.store is None:
        return Ownership(_made(settings) / _OWNERS)
    from mri_recon_service.storage.database import Database
    from mri_recon_service.storage.leases import Leases

    return Leases(Database(settings.store.get_secret_value()), seconds=settings.lease_seconds)


def check_data_folder(settings: Settings) -> None:
    """Check that jobs can be kept, before the service listens.

    Raises:
        ConfigError: the folder cannot be used.
    """
    open_files(settings).close()
    open_store(settings).close()


def _packages_missing(setting: str) -> ConfigError:
    return ConfigError(
        f"expected the packages that {setting} needs, got an installation without them: pip install "
        "'mri-recon[cluster]'"
    )


def _made(settings: Settings) -> Path:
    folder = data_folder(settings)
    try:
        private_folder(folder, ours=("jobs", "owners"))
    except OSError as error:
        raise unusable_folder(folder, error) from error
    return folder
