"""Wire the parts that do the work of one process, and run its threads.

Direct work lives in memory and ends with its connection. Jobs live in the store, and any free process claims
the oldest. Waiting work for the same network and shape runs together.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from mri_recon.methods.estimates import Estimates
from mri_recon_service.buffers import Buffers
from mri_recon_service.heap import Heap
from mri_recon_service.http.prometheus import Metrics
from mri_recon_service.jobs.admission import Admission
from mri_recon_service.jobs.deliveries import Deliveries
from mri_recon_service.jobs.direct import Direct, DirectWork
from mri_recon_service.jobs.housekeeping import Housekeeping
from mri_recon_service.jobs.listeners import POLL_SECONDS, Listeners
from mri_recon_service.jobs.opening import Opening, Pool
from mri_recon_service.jobs.performer import Performer
from mri_recon_service.jobs.requests import JobRequests
from mri_recon_service.jobs.runner import JobRunner
from mri_recon_service.jobs.schedule import Schedule, Turn
from mri_recon_service.problems import Problem
from mri_recon_service.settings import Settings
from mri_recon_service.storage.data_folder import open_files, open_owner, open_store
from mri_recon_service.storage.file_store import FileStore
from mri_recon_service.storage.store import JobChange, JobStore, Owner
from mri_recon_service.targets import Targets
from mri_recon_service.work import Prepared, Task, prepare

__all__ = ["Engine", "open_engine"]

T = TypeVar("T")

log = logging.getLogger("mri_recon_service")

_RENDERING_THREADS = 2
_PATIENCE_SECONDS = 30.0
_STOP_SECONDS = 2.0  # a thread that takes longer to end is left running


class Engine:
    """The work of one process. Call `start` before use and `close` after.

    Args:
        settings: the service's settings.
        store: keeps the jobs.
        files: keeps their files.
        owner: shows other processes that this process is alive.
        parser: opens uploads.
        buffers: memory of all that is no running reconstruction.
        estimates: estimates of memory and time.
        metrics: the service's metrics.
        targets: the registered targets of deliveries.

    Attributes:
        store: keeps the jobs.
        files: keeps their files.
        admission: bounds the admitted work.
        opening: opens uploads.
        direct: answers requests whose clients wait.
        jobs: accepts, cancels and deletes jobs.
        runner: runs jobs.
        schedule: chooses the next work of the threads.
        listeners: wake the tasks that follow a job.
        targets: the registered targets of deliveries.
        buffers: memory of all that is no running reconstruction.
        answer_folder: folder for answers that are being sent.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        files: FileStore,
        owner: Owner,
        parser: Pool,
        buffers: Buffers,
        estimates: Estimates,
        metrics: Metrics,
        targets: Targets,
    ) -> None:
        most_memory = settings.memory_bytes
        self.store = store
        self.files = files
        self.targets = targets
        self.buffers = buffers
        self.answer_folder = settings.upload_folder
        self.listeners = Listeners()
        self.schedule: Schedule[Direct[Any]] = Schedule(most_memory=most_memory, max_batch=settings.max_batch)
        self.admission = Admission(settings, estimates, queued=store.queued, most_memory=most_memory)
        self.opening = Opening(parser, self.admission)
        performer = Performer(device=settings.device, admission=self.admission, estimates=estimates, metrics=metrics)
        self.direct = DirectWork(
            admission=self.admission,
            schedule=self.schedule,
            performer=performer,
            timeout_seconds=settings.timeout_seconds,
        )
        self.runner = JobRunner(
            settings=settings,
            store=store,
            files=files,
            owner=owner,
            opening=self.opening,
            performer=performer,
            admission=self.admission,
            schedule=self.schedule,
            listeners=self.listeners,
            metrics=metrics,
        )
        self.jobs = JobRequests(
            settings=settings,
            store=store,
            files=files,
            admission=self.admission,
            schedule=self.schedule,
            runner=self.runner,
            listeners=self.listeners,
            metrics=metrics,
        )
        self._housekeeping = Housekeeping(
            settings, store, files, owner=owner, runner=self.runner, schedule=self.schedule
        )
        self._deliveries = Deliveries(
            settings=settings,
            store=store,
            files=files,
            owner=owner,
            targets=targets,
            listeners=self.listeners,
            metrics=metrics,
        )
        self._owner = owner
        self._heap = Heap()
        # Threads wait here for their turns, which the parsers share out fairly.
        self._opener = ThreadPoolExecutor(settings.max_concurrent_uploads, thread_name_prefix="open")
        self._renderer = ThreadPoolExecutor(_RENDERING_THREADS, thread_name_prefix="render")
        self._threads = [
            threading.Thread(target=self._work, name=f"reconstruction_{number}", daemon=True)
            for number in range(settings.worker_threads)
        ]

    def start(self) -> None:
        """Recover the jobs of dead processes, and start the threads."""
        self._housekeeping.start()
        self.store.follow(self._changed)
        if self.targets.by_name:
            self._deliveries.start()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop the threads. Running jobs go back to the queue before their next iteration."""
        waiting = self.schedule.close()
        self.runner.stop()
        self._housekeeping.stop()
        self._deliveries.stop()
        self.direct.abandon(waiting)
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        self._housekeeping.join(max(0.0, deadline - time.monotonic()))
        for threads in (self._opener, self._renderer):
            threads.shutdown(wait=False, cancel_futures=True)
        delivered = self._deliveries.join(max(0.0, deadline - time.monotonic()))
        if not delivered or any(thread.is_alive() for thread in self._threads):
            return  # its job belongs to this process until the process ends, and is queued again then
        self._owner.close()
        self.store.close()
        self.files.close()

    async def open(
        self,
        task: Task,
        files: Mapping[str, Path],
        sources: Mapping[str, Mapping[str, Any]],
        *,
        client: str,
        deadline: float = math.inf,
    ) -> Prepared:
        """Open the files of a task, in a thread.

        Args:
            task: the task.
            files: its files.
            sources: their description, see `Prepared`.
            client: who sent them.
            deadline: `clock.now()` after which nobody waits for them.

        Raises:
            Problem: busy, timed-out, too-much-memory, or the files or fields are refused.
        """
        with self.admission.opening(client):
            parser = self.opening.parser(client, deadline)
            prepared = await self.in_thread(functools.partial(prepare, task, files, sources, parser))
        self.admission.check_memory(prepared)
        return prepared

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Do work that opens files in one of the threads for it."""
        return await asyncio.get_running_loop().run_in_executor(self._opener, work)

    async def render(self, work: Callable[[], T]) -> T:
        """Do work that makes answers in one of the few threads for it."""
        return await asyncio.get_running_loop().run_in_executor(self._renderer, work)

    @contextmanager
    def memory(self, num_bytes: int) -> Iterator[None]:
        """Hold memory during the block, in which an answer is made.

        Raises:
            Problem: busy.
        """
        held = self.buffers.wait(num_bytes, _PATIENCE_SECONDS)
        if held is None:
            raise self.admission.busy("other answers are being made, which take all memory for that")
        try:
            yield
        finally:
            held.release()

    def _changed(self, change: JobChange, job_id: str) -> None:
        """Take the news of a job that any process changed."""
        match change:
            case "queued":
                self.schedule.look_for_jobs()
            case "changed":
                self.listeners.tell(job_id)
            case "stop":
                self.runner.cancel(job_id)

    def _work(self) -> None:
        while (turn := self.schedule.next()) is not None:
            try:
                self._take(turn)
                del turn  # what it held can be freed
                self._heap.trim()
            except Exception as error:  # for example, a store that cannot be read: try again later
                if isinstance(error, Problem):
                    log.error("a worker waits: %s", error)
                else:
                    log.exception("a worker failed")
                time.sleep(POLL_SECONDS)
                self.schedule.look_for_jobs()

    def _take(self, turn: Turn[Direct[Any]]) -> None:
        if not turn.direct:
            self.runner.run(turn.memory)
            return
        try:
            self.direct.run(turn.direct)
        finally:
            self.schedule.give_back(turn.memory)


def open_engine(
    settings: Settings,
    parser: Pool,
    buffers: Buffers,
    estimates: Estimates,
    metrics: Metrics,
    targets: Targets,
) -> Engine:
    """Make the engine on the data folder of the settings, not started.

    Raises:
        ConfigError: the folder cannot be used.
    """
    files, store, owner = open_files(settings), open_store(settings), open_owner(settings)
    return Engine(settings, store, files, owner, parser, buffers, estimates, metrics, targets)
