"""Find, cancel and delete jobs of a data folder from outside the service, which may run or not."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mri_recon.errors import ConfigError
from mri_recon_service import clock
from mri_recon_service.job import FINISHED, Job
from mri_recon_service.settings import Settings
from mri_recon_service.storage.data_folder import STORE_FILE, data_folder, open_files, open_store
from mri_recon_service.storage.ownership import unusable_folder

__all__ = ["Maintenance"]

_PATIENCE_SECONDS = 10.0  # for a running job to end
_LOOK_SECONDS = 0.1


class Maintenance:
    """The jobs of a data folder.

    Attributes:
        store: keeps the jobs.
        files: keeps their files.

    Raises:
        ConfigError: there is no such folder, or it cannot be used.
    """

    def __init__(self, settings: Settings) -> None:
        folder = data_folder(settings)
        try:
            exists = settings.store is not None or (folder / STORE_FILE).is_file()
        except OSError as error:
            raise unusable_folder(folder, error) from error
        if not exists:
            raise ConfigError(
                f"expected the data folder of a service, got {folder} without {STORE_FILE}: name it by "
                "MRI_RECON_DATA_DIR, as the service has it"
            )
        self._ttl = settings.result_ttl_seconds
        self.files = open_files(settings)
        self.store = open_store(settings)

    def find(self, job_id: str) -> Job:
        """Look a job up by its identifier.

        Raises:
            ConfigError: there is no such job.
        """
        job = self.store.get(job_id)
        if job is None:
            raise ConfigError(
                f"expected the identifier of a job, got {job_id[:80]!a}: `mri-recon jobs list` shows them"
            )
        return job

    def find_all(self, job_ids: Sequence[str]) -> list[Job]:
        """Look several jobs up, each once.

        Raises:
            ConfigError: one of them is unknown.
        """
        return [self.find(one) for one in dict.fromkeys(job_ids)]

    def cancel(self, job: Job) -> Job:
        """End a waiting job, or have its process stop a running one. Returns the job as it is then."""
        after = self.store.cancel(job.id, expires=clock.now() + self._ttl) or job
        if after.status == "cancelled":
            self.files.remove(job.id)
        return after

    def purge(self, job: Job) -> bool:
        """Delete the files and the record of a job. Returns False if the job does not end within ten seconds.

        Raises:
            ConfigError: files remain, since they belong to another user.
        """
        if job.status not in FINISHED and not self._ends(self.cancel(job)):
            return False
        self.files.remove(job.id)
        if self.files.holds(job.id):
            raise ConfigError(
                f"expected files that can be deleted, got {self.files.place(job.id)}: run this as the service's user"
            )
        self.store.delete(job.id)
        return True

    def close(self) -> None:
        """Close the store."""
        self.store.close()
        self.files.close()

    def _ends(self, job: Job) -> bool:
        deadline = time.monotonic() + _PATIENCE_SECONDS
        current: Job | None = job
        while current is not None and current.status not in FINISHED:
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_SECONDS)
            current = self.store.get(job.id)
        return True
