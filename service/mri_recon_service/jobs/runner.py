"""Run jobs: claim them from the store, do the work, write the results, record how they ended."""

from __future__ import annotations

import functools
import logging
import math
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

from mri_recon._system.files import is_full
from mri_recon._system.jsonable import jsonable
from mri_recon.errors import Cancelled
from mri_recon.progress import Progress
from mri_recon.results.comparison import Comparison
from mri_recon_service.answers.bundle import write_bundle
from mri_recon_service.clock import now
from mri_recon_service.http.prometheus import Metrics
from mri_recon_service.job import Job, Status, problem_record
from mri_recon_service.jobs.admission import Admission
from mri_recon_service.jobs.control import Control
from mri_recon_service.jobs.listeners import Listeners
from mri_recon_service.jobs.opening import Opening
from mri_recon_service.jobs.performer import Performer
from mri_recon_service.jobs.results import bundle_of, hdf5_of, method_hdf5, part_of
from mri_recon_service.jobs.schedule import Schedule
from mri_recon_service.problems import Problem, storage_full
from mri_recon_service.settings import Settings
from mri_recon_service.storage.file_store import FileStore
from mri_recon_service.storage.store import JobStore, Owner
from mri_recon_service.work import Outcome, Prepared, prepare, read_task

__all__ = ["HDF5_FILE", "NPZ_FILE", "JobRunner", "method_file", "part_file"]

log = logging.getLogger("mri_recon_service")

NPZ_FILE, HDF5_FILE = "result.npz", "result.h5"
"""Files of a finished job: the bundle of every result, and the library's file of a reconstruction."""


def method_file(index: int) -> str:
    """Name the library's file of a method of a comparison, which has it as its method with this index."""
    return f"method-{index}.h5"


def part_file(index: int) -> str:
    """Name the bundle of a part of a running comparison: 0 is the scan, then its methods in their order."""
    return f"part-{index}.npz"


@dataclass(eq=False, kw_only=True)
class JobRunner:
    """Jobs that run in this process. Worker threads call `run`. Any thread may call the other methods.

    Attributes:
        settings: the service's settings.
        store: keeps the jobs.
        files: keeps their files.
        owner: this process in the store. A job that runs here belongs to its own `Job.owner`.
        opening: opens uploads.
        performer: does the work.
        admission: words the problem of a missed deadline.
        schedule: reserves memory for jobs.
        listeners: notified of every change.
        metrics: the service's metrics.
    """

    settings: Settings
    store: JobStore
    files: FileStore
    owner: Owner
    opening: Opening
    performer: Performer
    admission: Admission
    schedule: Schedule[Any]
    listeners: Listeners
    metrics: Metrics
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)
    _running: dict[tuple[str, str], Control] = field(default_factory=dict, init=False)
    _parts: dict[tuple[str, str], list[str]] = field(default_factory=dict, init=False)
    _unrecorded: list[Callable[[], None]] = field(default_factory=list, init=False)
    _stopping: bool = field(default=False, init=False)

    @property
    def running(self) -> int:
        """Number of jobs that run here."""
        return len(self._running)

    def cancel(self, job_id: str) -> None:
        """Stop a job that runs here before its next iteration. Other jobs are left alone."""
        with self._lock:
            for (_, running), control in self._running.items():
                if running == job_id:
                    control.stop("cancelled")

    def runs(self, job_id: str) -> bool:
        """Tell whether a job runs here."""
        with self._lock:
            return any(running == job_id for _, running in self._running)

    def let_go(self) -> None:
        """Stop the jobs that this process has lost: those of an owner that it no more is."""
        ours = self.owner.id
        with self._lock:
            for (owner, _), control in self._running.items():
                if owner != ours:
                    control.stop("stopping")

    def stop(self) -> None:
        """Put every job that runs here, or is claimed from now on, back to the queue before its next iteration."""
        with self._lock:
            self._stopping = True
            for control in self._running.values():
                control.stop("stopping")

    def run(self, room: int) -> None:
        """Claim and run jobs within the `room` bytes that the schedule reserved, and free the bytes at the end."""
        alone = room == self.schedule.most_memory
        try:
            jobs = self.store.claim(self.owner.id, most=self.settings.max_batch, memory=room, alone=alone)
            if alone and not jobs:  # a job accepted when there was more memory runs alone
                jobs = self.store.claim(self.owner.id, most=1)
            job_waits = not jobs and not alone and bool(self.store.queued())
        except BaseException:
            self.schedule.give_back(room, look_for_jobs=False)
            raise
        # A suspected job takes all memory, so that no other work begins beside it.
        needed = room if any(job.suspected for job in jobs) else min(room, sum(job.memory for job in jobs))
        self.schedule.claimed(needed, of=room, job_waits=job_waits)
        if not jobs:
            return
        try:
            self._run_claimed(jobs, alone=needed == self.schedule.most_memory or self.settings.worker_threads == 1)
        finally:
            self.schedule.give_back(needed)

    def record_again(self) -> None:
        """Record the ends of jobs that the disk refused before."""
        with self._lock:
            late, self._unrecorded = self._unrecorded, []
        for again in late:
            again()

    def _run_claimed(self, jobs: Sequence[Job], *, alone: bool) -> None:
        """Run claimed jobs.

        Args:
            jobs: jobs of one batch key.
            alone: whether no other thread works meanwhile.
        """
        self.schedule.look_for_jobs()  # more jobs may wait
        controls = {(job.owner, job.id): self._control(job) for job in jobs}
        with self._lock:
            self._running |= controls
            if self._stopping:
                for control in controls.values():
                    control.stop("stopping")
        try:
            ready: list[tuple[Job, Prepared]] = []
            for job in jobs:
                self.listeners.tell(job.id)
                prepared = self._opened(job, controls[job.owner, job.id])
                if prepared is not None:
                    ready.append((job, prepared))
            together = len(ready) > 1
            self._begin([job for job, _ in ready], alone=alone and not together)
            outcomes = self.performer.together([prepared for _, prepared in ready])
            while ready:  # the k-space of a finished job is freed before the next
                (job, prepared), outcome = ready.pop(0), outcomes.pop(0)
                if outcome is None and together:  # the batch failed
                    self._begin([job], alone=alone, waiting=[other for other, _ in ready])
                self._run_one(job, prepared, controls[job.owner, job.id], outcome)
        finally:
            with self._lock:
                for job in jobs:
                    self._running.pop((job.owner, job.id), None)
                    self._parts.pop((job.owner, job.id), None)

    def _begin(self, jobs: Sequence[Job], *, alone: bool, waiting: Sequence[Job] = ()) -> None:
        """Note whose work begins, so that no other job is blamed if this process dies."""
        if not jobs:
            return
        try:
            names = [job.id for job in jobs]
            self.store.begin(jobs[0].owner, names, alone=alone, waiting=[job.id for job in waiting])
        except Exception as error:  # the work matters more
            told = log.error if isinstance(error, Problem) else log.exception
            told("the beginning of work cannot be recorded")

    def _control(self, job: Job) -> Control:
        deadline = min(job.deadline or math.inf, now() + self.settings.timeout_seconds)
        return Control(deadline=deadline, report=lambda progress: self._report(job, progress))

    def _opened(self, job: Job, control: Control) -> Prepared | None:
        """Open the job's files. Returns None if the job ended because of them."""
        prepared: list[Prepared] = []

        def work() -> None:
            control.check()
            request = job.request
            task = read_task(job.kind, request["fields"], limits=self.settings.option_limits)
            parser = self.opening.parser(job.client, control.deadline)
            with ExitStack() as stack:
                paths = {
                    name: stack.enter_context(self.files.upload(job.id, file))
                    for name, file in request["files"].items()
                }
                prepared.append(prepare(task, paths, request["sources"], parser))

        self._guarded(job, control, work, ends=False)
        return prepared[0] if prepared else None

    def _run_one(self, job: Job, prepared: Prepared, control: Control, outcome: Outcome | None) -> None:
        def work() -> None:
            control.check()
            on_change = functools.partial(self._keep_part, job, prepared)
            done = outcome or self.performer.alone(prepared, control, on_change=on_change)
            control.check()
            bundle = bundle_of(done)
            self.files.write(job, NPZ_FILE, write_bundle(bundle))
            if job.kind == "reconstruction":
                self.files.write(job, HDF5_FILE, hdf5_of(done, bundle))

        self._guarded(job, control, work, ends=True)

    def _keep_part(self, job: Job, prepared: Prepared, comparison: Comparison) -> None:
        """Keep what an unfinished comparison got last, so that its client can show it, and the method's file."""
        name, part = part_of(comparison, prepared)
        index = len(comparison.rows)
        self.files.write(job, part_file(index), write_bundle(part))
        self._parts.setdefault((job.owner, job.id), []).append(name)
        method = comparison.rows[-1]["method"] if comparison.rows else prepared.task.methods[0]
        self._report(job, Progress(method, "done", 1, 1) if comparison.rows else Progress(method, "prepare", 0, None))
        if comparison.rows:
            self.files.write(job, method_file(index - 1), method_hdf5(comparison, method, prepared))

    def _guarded(self, job: Job, control: Control, work: Callable[[], None], *, ends: bool) -> None:
        """Run a part of a job and record its failure. Success is recorded too if the part `ends` the job."""
        try:
            work()
        except Cancelled:
            match control.reason:
                case "stopping":
                    self._record(job, functools.partial(self.store.release, job.id, job.owner))
                case "timed-out":
                    limit = self.settings.timeout_seconds
                    if job.deadline is not None:
                        limit = min(limit, job.deadline - job.created)
                    self._end(job, "failed", self.admission.late(limit))
                case _:
                    self._end(job, "cancelled", None)
        except Problem as problem:
            self._end(job, "failed", problem)
        except Exception as error:
            log.exception("job %s of request %s failed", job.id, job.request_id)
            what = f"an unexpected error occurred: the operator finds it in the log under {job.request_id}"
            self._end(job, "failed", storage_full() if is_full(error) else Problem("internal-error", what))
        else:
            if ends:
                self._end(job, "succeeded", None)

    def _end(self, job: Job, status: Status, problem: Problem | None) -> None:
        record = None if problem is None else problem_record(problem)
        num_parts = len(self._parts.get((job.owner, job.id), ()))

        def finish() -> None:
            expires = now() + self.settings.result_ttl_seconds
            try:
                kept = self.files.size(job.id) if status == "succeeded" else 0
                ended = self.store.finish(job.id, job.owner, status, problem=record, expires=expires, disk_bytes=kept)
            except Problem:
                if status != "succeeded":  # its files are useless now; deleting them makes room for the record
                    self.files.remove_run(job)
                raise
            if not ended:  # another process has the job
                if job.run:
                    self.files.remove_run(job)
            elif status == "succeeded":
                parts = [part_file(index) for index in range(num_parts)]
                self.files.remove_all_but_result(job, uploads=job.request["files"].values(), parts=parts)
            else:
                self.files.remove(job.id)

        self._record(job, finish)
        self.metrics.observe_job(job.kind, status, now() - job.created)

    def _record(self, job: Job, write: Callable[[], None]) -> None:
        """Record the end of a job. If the disk refuses, `record_again` tries again: the job must not hang."""
        try:
            write()
        except Exception as error:
            told = log.error if isinstance(error, Problem) else log.exception
            told("the end of job %s cannot be recorded: the service tries again", job.id)
            with self._lock:
                self._unrecorded.append(functools.partial(self._record, job, write))
        self.listeners.tell(job.id)

    def _report(self, job: Job, progress: Progress) -> None:
        try:
            parts = {"parts": list(self._parts[job.owner, job.id])} if (job.owner, job.id) in self._parts else {}
            self.store.progress(job.id, job.owner, {**jsonable(asdict(progress)), **parts})
        except Exception as error:  # the work matters more than its progress
            tell = log.error if isinstance(error, Problem) else log.exception
            tell("the progress of job %s cannot be recorded", job.id)
        self.listeners.tell(job.id)
