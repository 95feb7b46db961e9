"""Define where the uploads and results of jobs are kept.

`JobFiles` keeps them in a folder, `ObjectFiles` in a bucket, which processes of several machines share.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from mri_recon_service.job import Job

__all__ = ["FileStore"]


class FileStore(Protocol):
    """The files of jobs. Where a job may have several runs, each writes its results beside those of the others."""

    @property
    def most_bytes(self) -> int:
        """Number of bytes that all files may take."""
        ...

    def place(self, job_id: str) -> str:
        """Name the place of a job's files, for the operator."""
        ...

    def holds(self, job_id: str) -> bool:
        """Tell whether there are files of a job."""
        ...

    def size(self, job_id: str) -> int:
        """Count the bytes of a job's files."""
        ...

    def total(self) -> int:
        """Count the bytes of all files."""
        ...

    def free(self) -> int:
        """Count the bytes for which there is room."""
        ...

    def upload(self, job_id: str, name: str) -> AbstractContextManager[Path]:
        """Provide an uploaded file of a job on this machine, to be read in the block.

        Raises:
            FileNotFoundError: there is no such file.
            Problem: it cannot be fetched.
        """
        ...

    def result(self, job: Job, name: str) -> AbstractContextManager[Path]:
        """Provide a file of a job's run on this machine, to be read in the block. Opened there, it can be read later.

        Raises:
            FileNotFoundError: there is no such file.
            Problem: it cannot be fetched.
        """
        ...

    def address(self, job: Job, name: str) -> str | None:
        """Make an address from which a client may fetch a file of a job's run for a short time. None: there is none.

        Raises:
            FileNotFoundError: there is no such file.
            Problem: the place cannot be reached.
        """
        ...

    def take(self, job_id: str, files: Mapping[str, Path]) -> dict[str, str]:
        """Keep uploaded files for a new job. When this returns, they survive a crash.

        Returns:
            Name of each file by its field.

        Raises:
            Problem: storage-full.
        """
        ...

    def write(self, job: Job, name: str, content: bytes) -> None:
        """Write a file of a job's run. It is whole or not there, and survives a crash when this returns.

        Raises:
            Problem: storage-full.
        """
        ...

    def remove_all_but_result(self, job: Job, *, uploads: Collection[str], parts: Collection[str]) -> None:
        """Delete the files of a finished job that nobody needs any more.

        Args:
            job: the job.
            uploads: names of its uploads.
            parts: names of the files of its run that are parts of its result.
        """
        ...

    def remove_run(self, job: Job) -> None:
        """Delete what a run wrote. Where a job has one run only, those are all of its files."""
        ...

    def remove(self, job_id: str) -> None:
        """Delete all files of a job. A second call does nothing. The log says what cannot be deleted."""
        ...

    def old(self) -> list[str]:
        """List the jobs whose files are older than an hour."""
        ...

    def close(self) -> None:
        """Free what this process holds. Files that it has opened can be read on."""
        ...

    def works(self) -> bool:
        """Try to write and to delete a file, within a few seconds. The log says why that fails."""
        ...
