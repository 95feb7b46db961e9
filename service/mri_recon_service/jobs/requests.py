"""Accept, cancel, delete and await jobs for clients. Every method but `finished` blocks."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mri_recon_service.clock import now
from mri_recon_service.http.prometheus import Metrics
from mri_recon_service.job import FINISHED, Job, NewJob
from mri_recon_service.jobs.admission import Admission
from mri_recon_service.jobs.listeners import Listeners
from mri_recon_service.jobs.runner import JobRunner
from mri_recon_service.jobs.schedule import Schedule
from mri_recon_service.problems import Problem
from mri_recon_service.settings import Settings
from mri_recon_service.storage.file_store import FileStore
from mri_recon_service.storage.store import Bounds, DeliveriesFull, DiskShareFull, JobStore, QueueFull
from mri_recon_service.work import Prepared, batch_key

__all__ = ["JobRequests"]


@dataclass(eq=False, kw_only=True)
class JobRequests:
    """Clients' requests about jobs, in the store that all processes share.

    Attributes:
        settings: the service's settings.
        store: keeps the jobs.
        files: keeps their files.
        admission: estimates memory, words refusals.
        schedule: wakes a thread for an accepted job.
        runner: stops jobs that run here.
        listeners: notified of every change.
        metrics: the service's metrics.
    """

    settings: Settings
    store: JobStore
    files: FileStore
    admission: Admission
    schedule: Schedule[Any]
    runner: JobRunner
    listeners: Listeners
    metrics: Metrics

    def accept(
        self,
        prepared: Prepared,
        texts: Mapping[str, str],
        files: Mapping[str, Path],
        *,
        arrived: float,
        client: str,
        key: str | None,
        fingerprint: str,
        request_id: str,
        deliver: str | None = None,
    ) -> Job:
        """Keep work as a job. Once this returns, neither a crash nor a power cut loses the job.

        Raises:
            Problem: busy, storage-full.
            KeyInUse: the client used the key for another job.
        """
        job_id = uuid.uuid4().hex
        names = self.files.take(job_id, files)
        seconds = prepared.task.fields.deadline_seconds
        job = NewJob(
            id=job_id,
            kind=prepared.task.kind,
            client=client,
            request={"fields": dict(texts), "files": names, "sources": dict(prepared.sources)},
            created=arrived,
            deadline=None if seconds is None else arrived + seconds,
            batch_key=batch_key(prepared),
            memory=self.admission.memory(prepared),
            key=key,
            fingerprint=fingerprint,
            request_id=request_id,
            deliver=deliver,
            disk_bytes=self.files.size(job_id) + self.admission.result_bytes(prepared),
        )
        settings = self.settings
        bounds = Bounds(
            queued=settings.max_queued_jobs,
            deliveries=settings.max_deliveries,
            disk_bytes=self.files.most_bytes,
            shared=settings.keys_required,
        )
        try:
            kept = self.store.add(job, bounds)
        except QueueFull:
            self.files.remove(job_id)
            raise self.admission.jobs_full() from None
        except DeliveriesFull:
            self.files.remove(job_id)
            most = settings.max_deliveries
            raise self.admission.busy(f"{most} deliveries wait, as many as this service takes") from None
        except DiskShareFull as full:
            self.files.remove(job_id)
            raise Problem(
                "storage-full",
                f"expected jobs that fit on the disk, got one of {job.disk_bytes} bytes beside others that "
                f"take {full.mine}: delete jobs whose results you have, or wait until they expire",
            ) from None
        except BaseException:
            self.files.remove(job_id)
            raise
        self.schedule.look_for_jobs()
        return kept

    def cancel(self, job: Job) -> Job | None:
        """Stop a job that waits or runs in any process. Returns the job in its new state, or None if it is deleted."""
        runs_here = self.runner.runs(job.id)
        after: Job | None = job
        try:
            after = self.store.cancel(job.id, expires=now() + self.settings.result_ttl_seconds)
        except Problem:  # a full disk: a job that runs here is stopped anyway, and its end is recorded later
            if not runs_here:
                raise
        self.runner.cancel(job.id)
        if after is not None and after.status in FINISHED:
            self.files.remove(job.id)
            if after.status == "cancelled":  # the job was waiting
                self.metrics.observe_job(job.kind, after.status, now() - job.created)
        self.listeners.tell(job.id)
        return after

    def delete(self, job: Job) -> None:
        """Forget a finished job and its result.

        Raises:
            Problem: storage-full, if the disk has no room for the change even without the job's files.
        """
        try:
            deleted = self.store.delete(job.id)
        except Problem:
            self.files.remove(job.id)
            deleted = self.store.delete(job.id)
        if deleted:
            self.files.remove(job.id)

    async def finished(self, job: Job, seconds: float) -> Job | None:
        """Wait at most `seconds` for the end of a job. Returns the job in its state then, or None if it is deleted."""
        deadline = time.monotonic() + seconds
        with self.listeners.listen(job.id) as event:
            while True:
                current = await asyncio.to_thread(self.store.get, job.id)
                left = deadline - time.monotonic()
                if current is None or current.status in FINISHED or left <= 0:
                    return current
                await self.listeners.changed(event, left)
