"""Maintain the jobs of the data folder: recover the jobs of dead processes, and cancel, expire and delete jobs.

Every half second a thread looks for changes by other processes. Once a minute it forgets dead
processes and deletes abandoned folders.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import Any

from mri_recon_service.clock import now
from mri_recon_service.heap import Heap
from mri_recon_service.job import problem_record
from mri_recon_service.jobs.listeners import POLL_SECONDS
from mri_recon_service.jobs.runner import JobRunner
from mri_recon_service.jobs.schedule import Schedule
from mri_recon_service.problems import Problem
from mri_recon_service.settings import Settings
from mri_recon_service.storage.file_store import FileStore
from mri_recon_service.storage.store import JobStore, Owner

__all__ = ["Housekeeping"]

log = logging.getLogger("mri_recon_service")

_SWEEP_SECONDS = 60.0
_TRIM_SECONDS = 5.0


class Housekeeping:
    """The thread that maintains the jobs.

    Args:
        settings: the service's settings.
        store: keeps the jobs.
        files: keeps their files.
        owner: tells which processes are alive.
        runner: runs the jobs of this process.
        schedule: wakes the worker threads.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        files: FileStore,
        *,
        owner: Owner,
        runner: JobRunner,
        schedule: Schedule[Any],
    ) -> None:
        self._settings = settings
        self._store = store
        self._files = files
        self._owner = owner
        self._runner = runner
        self._schedule = schedule
        self._unknown: set[str] = set()
        self._heap = Heap(_TRIM_SECONDS)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="janitor", daemon=True)

    def start(self) -> None:
        """Recover the jobs of dead processes, then start the thread."""
        self._recover()
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end."""
        self._stopped.set()

    def join(self, seconds: float) -> None:
        """Wait at most `seconds` for the end of the thread."""
        self._thread.join(seconds)

    def _loop(self) -> None:
        swept = 0.0
        while not self._stopped.wait(POLL_SECONDS):
            try:
                self._runner.record_again()
                self._recover()
                self._runner.let_go()
                for job_id in self._store.to_stop(self._owner.id):
                    self._runner.cancel(job_id)
                if self._store.queued():
                    self._schedule.look_for_jobs()
                self._expire()
                if time.monotonic() - swept > _SWEEP_SECONDS:
                    swept = time.monotonic()
                    self._sweep()
                self._heap.trim()
            except Exception:
                log.exception("the maintenance of the jobs failed: the service tries again")

    def _recover(self) -> None:
        most = self._settings.max_attempts
        lost = Problem(
            "worker-lost",
            f"the process that worked on the job died, {most} times: send fewer slices, or ask the operator why",
        )
        expires = now() + self._settings.result_ttl_seconds
        for owner in self._store.recover(
            self._owner.alive, most_attempts=most, lost=problem_record(lost), expires=expires
        ):
            log.warning("process %s died; its jobs are queued again", owner)
            self._owner.bury(owner)

    def _expire(self) -> None:
        time_now = now()
        for job_id in self._store.expire(time_now):
            self._files.remove(job_id)
        if forgotten := self._store.forget(time_now - self._settings.result_ttl_seconds):
            for job_id in forgotten:  # a process may have died between the mark above and the deletion
                self._files.remove(job_id)
            self._store.scrub()

    def _sweep(self) -> None:
        """Forget dead processes, and delete the folders of jobs that were never accepted or have been deleted.

        The date of a folder may be wrong: only one that was unknown a minute ago too is no job that is just accepted.
        """
        self._owner.sweep()
        old = self._files.old()
        unknown = set(old) - self._store.known(old)
        for job_id in unknown & self._unknown:
            self._files.remove(job_id)
        self._unknown = unknown
