"""Keep the uploads and results of jobs in one folder for each job. A power cut leaves a whole file or none.

Where a job may have several runs, each writes its results into a folder of its own in the job's: a run that lost the
job, and does not know yet, changes nothing of another's.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from mri_recon_service.job import Job
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

    def place(self, job_id: str) -> str:
        """See `FileStore`."""
        return str(self.folder(job_id))

    def holds(self, job_id: str) -> bool:
        """See `FileStore`."""
        return self.folder(job_id).exists()

    def size(self, job_id: str) -> int:
        """Count the bytes of a job's files."""
        total = 0
        with suppress(OSError):  # another process may have removed them
            for path in self.folder(job_id).rglob("*"):
                if path.is_file():
                    total += path.stat().st_size
        return total

    def total(self) -> int:
        """Count the bytes of all files."""
        return sum(self.size(path.name) for path in self._root.iterdir())

    def free(self) -> int:
        """Count the free bytes of the file system."""
        return shutil.disk_usage(self._root).free

    @contextmanager
    def upload(self, job_id: str, name: str) -> Iterator[Path]:
        """Provide an uploaded file of a job, to be read in the block.

        Raises:
            FileNotFoundError: there is no such file.
        """
        yield _existing(self.folder(job_id) / name)

    @contextmanager
    def result(self, job: Job, name: str) -> Iterator[Path]:
        """Provide a file that the run of a job wrote, to be read in the block. It can be opened there and read later.

        Raises:
            FileNotFoundError: there is no such file.
        """
        yield _existing(self._of_run(job) / name)

    def address(self, job: Job, name: str) -> None:
        """See `FileStore`. Clients get the files from the service."""

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

    def write(self, job: Job, name: str, content: bytes) -> None:
        """Write a file of a job's run. The complete file is on the disk when this returns.

        Raises:
            Problem: storage-full.
        """
        target = self._of_run(job) / name
        partial = target.with_name(f"{name}.partial")
        try:
            if job.run:
                target.parent.mkdir(mode=0o700, exist_ok=True)
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

    def remove_all_but_result(self, job: Job, *, uploads: Collection[str], parts: Collection[str]) -> None:
        """Delete the files of a finished job that nobody needs any more.

        Args:
            job: the job.
            uploads: names of its uploads.
            parts: names of the files of its run that are parts of its result.
        """
        folder, of_run = self.folder(job.id), self._of_run(job)
        for path in (*(folder / name for name in uploads), *(of_run / name for name in parts)):
            with suppress(OSError):
                path.unlink(missing_ok=True)
        if job.run:
            with suppress(OSError):
                for path in folder.iterdir():
                    if path.is_dir() and path != of_run:  # of a run that lost the job
                        shutil.rmtree(path, ignore_errors=True)

    def remove_run(self, job: Job) -> None:
        """Delete what a run wrote. Where a job has one run only, those are all of its files."""
        shutil.rmtree(self._of_run(job), ignore_errors=True)

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

    def close(self) -> None:
        """See `FileStore`."""

    def works(self) -> bool:
        """See `FileStore`."""
        try:
            with tempfile.TemporaryFile(dir=self._root, buffering=0) as file:
                file.write(b"x")
        except OSError as error:
            log.error("the folder of jobs cannot be used (%s)", error.strerror)
            return False
        return True

    def _of_run(self, job: Job) -> Path:
        return self.folder(job.id) / job.run


def _existing(path: Path) -> Path:
    """Return a path.

    Raises:
        FileNotFoundError: there is no such file.
    """
    path.stat()
    return path


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
