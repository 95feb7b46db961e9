"""Keep the uploads and results of jobs in one folder for each job. A power cut leaves a whole file or none."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mri_recon_service.private_files import make_private, private_opener
from mri_recon_service.problems import storage_full
from mri_recon_service.storage.ownership import unusable_folder

__all__ = ["JobFiles"]

log = logging.getLogger("mri_recon_service")

_ORPHAN_SECONDS = 3600.0


class JobFiles:
    """Folders of jobs below one folder, named by the jobs' identifiers, which the server makes."""

    def __init__(self, root: Path, *, most_bytes: int | None = None) -> None:
        """Make the folder if it does not exist, and keep other users from it.

        Args:
            root: the folder.
            most_bytes: bytes that all files may take. None: half of the file system.

        Raises:
            ConfigError: the folder cannot be made.
        """
        self._root = root
        try:
            root.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise unusable_folder(root, error) from error
        make_private(root)  # an earlier version may have made it
        self.most_bytes = shutil.disk_usage(root).total // 2 if most_bytes is None else most_bytes

    def folder(self, job_id: str) -> Path:
        """Return the folder of a job's files."""
        return self._root / job_id

    def size(self, job_id: str) -> int:
        """Count the bytes of a job's files."""
        total = 0
        with suppress(OSError):  # another process may have removed them
            for path in self.folder(job_id).iterdir():
                total += path.stat().st_size
        return total

    def total(self) -> int:
        """Count the bytes of all files."""
        return sum(self.size(path.name) for path in self._root.iterdir())

    def free(self) -> int:
        """Count the free bytes of the file system."""
        return shutil.disk_usage(self._root).free

    def take(self, job_id: str, files: Mapping[str, Path]) -> dict[str, str]:
        """Move uploaded files into a new folder for a job. The files are on the disk when this returns.

        Returns:
            Name of each file in the folder by its field.

        Raises:
            Problem: storage-full.
        """
        folder = self.folder(job_id)
        try:
            folder.mkdir(mode=0o700)
            for path in files.values():
                target = folder / path.name
                shutil.move(path, target)
                _sync(target)
            _sync(folder)
            _sync(self._root)
        except OSError as error:
            self.remove(job_id)
            raise storage_full() from error
        return {name: path.name for name, path in files.items()}

    def write(self, job_id: str, name: str, content: bytes) -> None:
        """Write a file. The complete file is on the disk when this returns.

        Raises:
            Problem: storage-full.
        """
        target = self.folder(job_id) / name
        partial = target.with_name(f"{name}.partial")
        try:
            with open(partial, "wb", opener=private_opener) as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(target)
            _sync(target.parent)
        except OSError as error:
            with suppress(OSError):
                partial.unlink(missing_ok=True)
            raise storage_full() from error

    def remove_uploads(self, job_id: str, names: Mapping[str, str]) -> None:
        """Delete files of a finished job that nobody needs any more: its uploads, the parts of its result."""
        for name in names.values():
            with suppress(OSError):
                (self.folder(job_id) / name).unlink(missing_ok=True)

    def remove(self, job_id: str) -> None:
        """Delete all files of a job. A second call does nothing. The log says what cannot be deleted."""
        folder = self.folder(job_id)
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():
            log.error("files of job %s cannot be deleted: delete the folder %s", job_id, folder)

    def old(self) -> list[str]:
        """List the jobs whose folders are older than an hour."""
        limit = time.time() - _ORPHAN_SECONDS
        found = []
        for path in self._root.iterdir():
            with suppress(OSError):  # another process may have removed it
                if path.stat().st_mtime < limit:
                    found.append(path.name)
        return found


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
