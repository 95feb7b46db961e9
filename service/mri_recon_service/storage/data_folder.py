"""Find and open the data folder: the store of jobs, their files, and the processes that own them."""

from __future__ import annotations

import os
from pathlib import Path

from mri_recon_service.private_files import private_folder
from mri_recon_service.settings import Settings
from mri_recon_service.storage.files import JobFiles
from mri_recon_service.storage.ownership import Ownership, unusable_folder
from mri_recon_service.storage.sqlite import SqliteStore

__all__ = ["STORE_FILE", "check_data_folder", "data_folder", "open_files", "open_owner", "open_store"]

STORE_FILE = "jobs.sqlite"
_FILES, _OWNERS = "jobs", "owners"


def data_folder(settings: Settings) -> Path:
    """Return the data folder of the settings, which may not exist."""
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return settings.data_dir or Path(state) / "mri-recon"


def open_store(settings: Settings) -> SqliteStore:
    """Open the store of jobs, and make it if it does not exist.

    Raises:
        ConfigError: the folder cannot be used.
    """
    return SqliteStore(_made(settings) / STORE_FILE)


def open_files(settings: Settings) -> JobFiles:
    """Open the files of jobs.

    Raises:
        ConfigError: the folder cannot be used.
    """
    return JobFiles(_made(settings) / _FILES, most_bytes=settings.max_stored_bytes)


def open_owner(settings: Settings) -> Ownership:
    """Show other processes that this one is alive.

    Raises:
        ConfigError: the folder cannot be used.
    """
    return Ownership(_made(settings) / _OWNERS)


def check_data_folder(settings: Settings) -> None:
    """Check that jobs can be kept, before the service listens.

    Raises:
        ConfigError: the folder cannot be used.
    """
    open_files(settings)
    open_store(settings).close()


def _made(settings: Settings) -> Path:
    folder = data_folder(settings)
    try:
        private_folder(folder, ours=("jobs", "owners"))
    except OSError as error:
        raise unusable_folder(folder, error) from error
    return folder
