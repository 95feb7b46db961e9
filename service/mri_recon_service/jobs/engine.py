"""The engine: it opens uploads, answers small work at once, and does jobs, in a bounded number of threads.

Direct work lives in memory and ends with its connection; jobs live in the store, and whichever process is free takes
the oldest. What waits for the same network on the same shape is run together.
"""

from __future__ import annotations

import asyncio
import functools
import logging
import math
import os
import threading
import time
import uuid
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from mri_recon._system.files import is_full
from mri_recon._system.jsonable import jsonable
from mri_recon.errors import Cancelled
from mri_recon.progress import Progress
from mri_recon_service.answers.rendering import bundle_of, hdf5_of, write_bundle
from mri_recon_service.http.prometheus import Metrics
from mri_recon_service.job import FINISHED, Job, NewJob, Status, problem_record
from mri_recon_service.jobs.control import Control
from mri_recon_service.jobs.estimates import Estimates
from mri_recon_service.problems import Problem, storage_full
from mri_recon_service.settings import Settings
from mri_recon_service.storage.files import JobFiles
from mri_recon_service.storage.ownership import Ownership
from mri_recon_service.storage.store import JobStore, QueueFull, SqliteStore
from mri_recon_service.work import (
    Outcome,
    Parser,
    Prepared,
    Task,
    batch_key,
    perform,
    perform_batch,
    prepare,
    read_task,
)

__all__ = ["HDF5_FILE", "NPZ_FILE", "Engine", "Place", "check_data_folder", "open_engine"]

log = logging.getLogger("mri_recon_service")

T = TypeVar("T")

NPZ_FILE, HDF5_FILE = "result.npz", "result.h5"
"""Files of a finished job: the bundle of every result, and the library's file of a reconstruction."""

_POLL_SECONDS = 0.5  # what another process did is seen this late
_SWEEP_SECONDS = 60.0
_LONGEST_RETRY = 600
_STOP_SECONDS = 10.0  # work that does not call back is left behind after this


class Place:
    """Room for one piece of direct work, to be given back once."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release
        self._lock = threading.Lock()

    def release(self) -> None:
        """Give it back; again is no error."""
        with self._lock:
            release, self._release = self._release, None
        if release is not None:
            release()


@dataclass(eq=False)
class _Direct(Generic[T]):
    """Work whose client waits for it."""

    prepared: Prepared
    render: Callable[[Outcome], T]
    control: Control
    place: Place
    key: str | None
    memory: int
    future: Future[T] = field(default_factory=Future)


class Engine:
    """Work of one process. `start` before use, `close` after.

    Args:
        settings: of the service.
        store: keeps the jobs.
        files: keeps their files.
        owner: says that this process lives.
        parser: opens uploads.
        estimates: of memory and time.
    """

    def __init__(
        self,
        settings: Settings,
        store: JobStore,
        files: JobFiles,
        owner: Ownership,
        parser: Parser,
        estimates: Estimates,
        metrics: Metrics | None = None,
    ) -> None:
        self.store = store
        self.files = files
        self._settings = settings
        self._owner = owner
        self._parser = parser
        self._estimates = estimates
        self._metrics = metrics or Metrics()
        self._condition = threading.Condition()  # only workers wait for it
        self._stopped = threading.Event()
        self._direct: deque[_Direct[Any]] = deque()
        self._jobs_wait = True
        self._direct_next = True
        self._held = 0
        self._memory = 0  # of direct work that waits or is being done
        self._in_use = 0  # of all work that is being done
        self._job_needs_room = False
        self._opening = 0
        self._closing = False
        self._running: dict[str, Control] = {}
        self._unrecorded: list[Callable[[], None]] = []
        self._listeners: dict[str, list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}
        self._seconds = 1.0  # how long work took lately
        self._most_memory = settings.max_memory_bytes or _four_fifths_of_memory()
        self._opener = ThreadPoolExecutor(max(2, settings.parser_processes), thread_name_prefix="open")
        self._threads = [
            threading.Thread(target=self._work, name=f"reconstruction_{number}", daemon=True)
            for number in range(settings.worker_threads)
        ]
        self._janitor = threading.Thread(target=self._look_after, name="janitor", daemon=True)

    def start(self) -> None:
        """Begin, first with what a process that died left behind."""
        self._recover()
        for thread in (*self._threads, self._janitor):
            thread.start()

    def close(self) -> None:
        """Start nothing more; running jobs go back to the queue before their next iteration."""
        with self._condition:
            self._closing = True
            waiting, self._direct = list(self._direct), deque()
            for control in self._running.values():
                control.stop("stopping")
            self._condition.notify_all()
        self._stopped.set()
        for item in waiting:
            item.place.release()
            item.future.cancel()
        deadline = time.monotonic() + _STOP_SECONDS
        for thread in (*self._threads, self._janitor):
            thread.join(max(0.0, deadline - time.monotonic()))
        self._opener.shutdown(wait=False, cancel_futures=True)
        if any(thread.is_alive() for thread in self._threads):
            return  # its job stays this process' until the process ends, and is queued again then
        self.store.close()
        self._owner.close()

    # What waits, and what is let in.

    @property
    def held(self) -> int:
        """Direct requests that run or wait here."""
        return self._held

    @property
    def running(self) -> int:
        """Jobs that run here."""
        return len(self._running)

    def queued(self) -> int:
        """Jobs that wait, for any process."""
        return self.store.queued()

    def refuse_if_full(self, *, durable: bool) -> None:
        """Before an upload is read for nothing.

        Raises:
            Problem: busy.
        """
        if durable:
            if self.store.queued() >= self._settings.max_queued_jobs:
                raise self._jobs_full()
        elif self._held >= self._limit:
            raise self._full()

    def place(self) -> Place:
        """Room for direct work.

        Raises:
            Problem: busy.
        """
        with self._condition:
            if self._held >= self._limit:
                raise self._full()
            self._held += 1
        return Place(self._leave)

    async def open(self, task: Task, files: Mapping[str, Path], sources: Mapping[str, Mapping[str, Any]]) -> Prepared:
        """A task with its data, opened in a thread.

        Raises:
            Problem: busy, too-much-memory, and whatever is wrong with files and fields.
        """
        if self._opening >= self._settings.max_concurrent_uploads:
            raise self._busy(f"{self._opening} uploads are being opened, as many as this service takes")
        self._opening += 1
        try:
            work = functools.partial(prepare, task, files, sources, self._parser)
            prepared = await asyncio.get_running_loop().run_in_executor(self._opener, work)
        finally:
            self._opening -= 1
        self.check_memory(prepared)
        return prepared

    def check_memory(self, prepared: Prepared) -> None:
        """Refuse work that would take more memory than all work may.

        Raises:
            Problem: too-much-memory.
        """
        needed = self.memory(prepared)
        if needed > self._most_memory:
            raise Problem(
                "too-much-memory",
                f"expected work that takes at most {self._most_memory} bytes of memory, got k-space of shape "
                f"{prepared.shape} that takes about {needed}: send fewer slices, or have the limit raised",
                limit=self._most_memory,
            )

    def memory(self, prepared: Prepared) -> int:
        """Bytes that the work is estimated to take at once."""
        return self.memory_of(prepared.task, prepared.shape)

    def memory_of(self, task: Task, shape: Sequence[int]) -> int:
        """Bound the bytes that a task takes at once on k-space of a shape."""
        options = {name: task.options.get(name, {}) for name in task.methods}
        if task.kind == "comparison":
            return self._estimates.comparison_bytes(options, shape)
        (method,) = task.methods
        return self._estimates.memory_bytes(method, shape, options[method])

    def small(self, prepared: Prepared) -> bool:
        """Whether it is to be answered at once."""
        size = self._estimates.decoded_bytes(prepared.shape) * len(prepared.task.methods)
        return size <= self._settings.sync_bytes

    # Direct work.

    async def answer(
        self,
        prepared: Prepared,
        render: Callable[[Outcome], T],
        *,
        place: Place,
        arrived: float,
        left: Callable[[], Awaitable[None]],
    ) -> T:
        """The rendered result of work that its client waits for.

        Args:
            prepared: what to do.
            render: makes the answer, in the worker's thread.
            place: given back when the work has ended, which may be after this returns.
            arrived: `time.time()` of the request.
            left: returns when the client is gone; the work then ends before its next iteration.

        Raises:
            Problem: busy, timed-out; and whatever the library refuses.
        """
        limit = min(prepared.task.fields.deadline_seconds or math.inf, self._settings.timeout_seconds)
        control = Control(deadline=arrived + limit)
        item = _Direct(prepared, render, control, place, batch_key(prepared), self.memory(prepared))
        self._enqueue(item)
        waiting: asyncio.Future[Any] = asyncio.wrap_future(item.future)
        leaving: asyncio.Future[Any] = asyncio.ensure_future(left())
        try:
            await asyncio.wait(
                [waiting, leaving], timeout=max(0.0, arrived + limit - time.time()), return_when="FIRST_COMPLETED"
            )
        finally:
            leaving.cancel()
            if not waiting.done():
                control.stop("cancelled" if leaving.done() and not leaving.cancelled() else "timed-out")
                self._drop(item)
        if waiting.done():
            try:
                result: T = waiting.result()
                return result
            except Cancelled as error:
                raise self._late(limit) from error
        waiting.cancel()
        raise self._late(limit)

    def _enqueue(self, item: _Direct[Any]) -> None:
        needed = item.memory
        with self._condition:
            refused = "the service is stopping" if self._closing else None
            if self._memory and self._memory + needed > self._most_memory:
                refused = "work that is being done takes the memory there is"
            if refused is None:
                self._memory += needed
                item.future.add_done_callback(lambda _: self._give_memory_back(needed))
                self._direct.append(item)
                self._condition.notify()
        if refused is not None:
            item.place.release()
            raise self._busy(refused)

    # Jobs.

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
    ) -> Job:
        """Keep work as a job; when this returns, neither a crash nor a power cut loses it. Blocks.

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
            memory=self.memory(prepared),
            key=key,
            fingerprint=fingerprint,
            request_id=request_id,
        )
        try:
            kept = self.store.add(job, most_queued=self._settings.max_queued_jobs)
        except QueueFull:
            self.files.remove(job_id)
            raise self._jobs_full() from None
        except BaseException:
            self.files.remove(job_id)
            raise
        self._wake()
        return kept

    def cancel(self, job: Job) -> Job | None:
        """Stop a job that waits or runs, in whichever process. Blocks."""
        with self._condition:
            control = self._running.get(job.id)
        after: Job | None = job
        try:
            after = self.store.cancel(job.id, expires=time.time() + self._settings.result_ttl_seconds)
        except Problem:  # a full disk: what runs here is stopped all the same, and says so when it can
            if control is None:
                raise
        if control is not None:
            control.stop("cancelled")
        if after is not None and after.status in FINISHED:
            self.files.remove(job.id)
            if after.status == "cancelled":  # it waited
                self._metrics.observe_job(job.kind, after.status, time.time() - job.created)
        self._tell(job.id)
        return after

    def delete(self, job: Job) -> None:
        """Forget a finished job and its result. Blocks.

        Raises:
            Problem: storage-full, where even the room that its files took is not enough to forget it.
        """
        try:
            deleted = self.store.delete(job.id)
        except Problem:
            self.files.remove(job.id)
            deleted = self.store.delete(job.id)
        if deleted:
            self.files.remove(job.id)

    @contextmanager
    def listen(self, job_id: str) -> Iterator[asyncio.Event]:
        """An event that is set when something happens to a job here; what other processes do is not heard."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._condition:
            self._listeners.setdefault(job_id, []).append(entry)
        try:
            yield entry[1]
        finally:
            with self._condition:
                listeners = self._listeners[job_id]
                listeners.remove(entry)
                if not listeners:
                    del self._listeners[job_id]

    async def changed(self, event: asyncio.Event) -> None:
        """Return when a listener's event is set, or when it is time to look what other processes did."""
        with suppress(TimeoutError):
            await asyncio.wait_for(event.wait(), _POLL_SECONDS)
        event.clear()

    async def finished(self, job: Job, seconds: float) -> Job | None:
        """The job when it has ended, or as it is after some seconds; None where it is gone."""
        deadline = time.monotonic() + seconds
        with self.listen(job.id) as event:
            while True:
                current = await asyncio.to_thread(self.store.get, job.id)
                left = deadline - time.monotonic()
                if current is None or current.status in FINISHED or left <= 0:
                    return current
                with suppress(TimeoutError):
                    await asyncio.wait_for(self.changed(event), left)

    # Threads.

    def _work(self) -> None:
        while True:
            with self._condition:
                while not (self._closing or self._direct_fits() or (self._jobs_wait and self._room > 0)):
                    self._condition.wait()
                if self._closing:
                    return
                jobs_next = self._jobs_wait and self._room > 0
                take_direct = self._direct_fits() and (self._direct_next or not jobs_next)
                self._direct_next = not take_direct  # in turns, where both wait
                items = self._next_direct() if take_direct else []
                # All the room there is, until it is known which jobs are taken.
                room, taken = self._room, sum(item.memory for item in items)
                self._in_use += taken if items else room
                if not items:
                    self._jobs_wait = False
            try:
                if items:
                    try:
                        self._do_direct(items)
                    finally:
                        self._end_use(taken)
                else:
                    self._do_jobs(room)
            except Exception as error:  # a store that cannot be read, say: try again, but not at once
                if isinstance(error, Problem):
                    log.error("a worker waits: %s", error)
                else:
                    log.exception("a worker failed")
                time.sleep(_POLL_SECONDS)
                self._wake()

    @property
    def _room(self) -> int:
        """Memory that is left beside the work that is being done. Under the lock."""
        return self._most_memory - self._in_use

    def _direct_fits(self) -> bool:
        """Whether the oldest direct work may begin; not before a job that waits for the memory. Under the lock."""
        if not self._direct or self._job_needs_room:
            return False
        return self._in_use == 0 or self._direct[0].memory <= self._room

    def _end_use(self, taken: int, *, look_again: bool = True) -> None:
        """Give memory back; where work has ended, a job that found no room may find it now."""
        with self._condition:
            self._in_use -= taken
            self._jobs_wait = self._jobs_wait or look_again
            self._condition.notify_all()

    def _next_direct(self) -> list[_Direct[Any]]:
        """The oldest, and what waits for the same network on the same shape and fits. Under the lock."""
        first = self._direct.popleft()
        alike = [] if first.key is None else [item for item in self._direct if item.key == first.key]
        fitting = self._room // max(1, first.memory) - 1  # equal keys take equal memory
        for item in (taken := alike[: max(0, min(self._settings.max_batch - 1, fitting))]):
            self._direct.remove(item)
        return [first, *taken]

    def _do_direct(self, items: Sequence[_Direct[Any]]) -> None:
        items = [item for item in items if self._begun(item)]
        outcomes: list[Outcome] = []
        if len(items) > 1:
            outcomes = self._together([item.prepared for item in items])
        for number, item in enumerate(items):
            try:
                item.control.check()
                if outcomes:
                    result = item.render(outcomes[number])
                else:
                    with self._timed([item.prepared]):
                        outcome = perform(item.prepared, device=self._settings.device, on_progress=item.control)
                    result = item.render(outcome)
            except BaseException as error:
                item.place.release()
                item.future.set_exception(error)
            else:
                item.place.release()
                item.future.set_result(result)

    def _together(self, several: Sequence[Prepared]) -> list[Outcome]:
        """Results of one run; none where it failed: whoever caused that gets the error when it is run alone."""
        try:
            with self._timed(several):
                return perform_batch(several, device=self._settings.device)
        except Exception:
            log.warning("a batch of %d failed; its requests are done one by one", len(several))
            return []

    def _begun(self, item: _Direct[Any]) -> bool:
        if item.future.set_running_or_notify_cancel():
            return True
        item.place.release()
        return False

    def _drop(self, item: _Direct[Any]) -> None:
        """Forget work that has not begun."""
        with self._condition:
            try:
                self._direct.remove(item)
            except ValueError:
                return
        item.future.cancel()
        item.place.release()

    def _do_jobs(self, room: int) -> None:
        """Do jobs that take no more than `room` bytes, all of which is held until it is known what they take."""
        alone = room == self._most_memory
        try:
            jobs = self.store.claim(self._owner.id, most=self._settings.max_batch, memory=room)
            if alone and not jobs:  # accepted when there was more memory: it is done by itself
                jobs = self.store.claim(self._owner.id, most=1)
            waiting = not jobs and not alone and bool(self.store.queued())
        except BaseException:
            self._end_use(room, look_again=False)
            raise
        needed = min(room, sum(job.memory for job in jobs))
        with self._condition:
            others = self._in_use > room
            self._job_needs_room = waiting and others
        self._end_use(room - needed, look_again=waiting and not others)
        if not jobs:
            return
        try:
            self._do_claimed(jobs)
        finally:
            self._end_use(needed)

    def _do_claimed(self, jobs: Sequence[Job]) -> None:
        self._wake()  # there may be more
        controls = {job.id: self._control(job) for job in jobs}
        with self._condition:
            self._running |= controls
            if self._closing:
                for control in controls.values():
                    control.stop("stopping")
        try:
            ready: list[tuple[Job, Prepared]] = []
            for job in jobs:
                self._tell(job.id)
                prepared = self._opened(job, controls[job.id])
                if prepared is not None:
                    ready.append((job, prepared))
            outcomes: list[Outcome] = []
            if len(ready) > 1:
                outcomes = self._together([prepared for _, prepared in ready])
            for number, (job, prepared) in enumerate(ready):
                self._do_job(job, prepared, controls[job.id], outcomes[number] if outcomes else None)
        finally:
            with self._condition:
                for job in jobs:
                    self._running.pop(job.id, None)

    def _control(self, job: Job) -> Control:
        deadline = min(job.deadline or math.inf, time.time() + self._settings.timeout_seconds)
        return Control(deadline=deadline, report=lambda progress: self._report(job, progress))

    def _opened(self, job: Job, control: Control) -> Prepared | None:
        """The job's data; None where it has ended over them."""
        prepared: list[Prepared] = []

        def work() -> None:
            control.check()
            request = job.request
            task = read_task(job.kind, request["fields"], max_iters=self._settings.max_iters)
            folder = self.files.folder(job.id)
            paths = {name: folder / file for name, file in request["files"].items()}
            prepared.append(prepare(task, paths, request["sources"], self._parser))

        self._guarded(job, control, work, ends=False)
        return prepared[0] if prepared else None

    def _do_job(self, job: Job, prepared: Prepared, control: Control, outcome: Outcome | None) -> None:
        def work() -> None:
            control.check()
            if outcome is None:
                with self._timed([prepared]):
                    done = perform(prepared, device=self._settings.device, on_progress=control)
            else:
                done = outcome
            control.check()
            bundle = bundle_of(done)
            self.files.write(job.id, NPZ_FILE, write_bundle(bundle))
            if job.kind == "reconstruction":
                self.files.write(job.id, HDF5_FILE, hdf5_of(done, bundle))

        self._guarded(job, control, work, ends=True)

    def _guarded(self, job: Job, control: Control, work: Callable[[], None], *, ends: bool) -> None:
        """Run a part of a job; whatever comes of it is recorded, success where the part `ends` the job."""
        try:
            work()
        except Cancelled:
            match control.reason:
                case "stopping":
                    self._record(job, functools.partial(self.store.release, job.id, self._owner.id))
                case "timed-out":
                    limit = self._settings.timeout_seconds
                    if job.deadline is not None:
                        limit = min(limit, job.deadline - job.created)
                    self._end(job, "failed", self._late(limit))
                case _:
                    self._end(job, "cancelled", None)
        except Problem as problem:
            self._end(job, "failed", problem)
        except Exception as error:
            log.exception("job %s of request %s failed", job.id, job.request_id)
            what = f"something unexpected failed; the log has it under {job.request_id}"
            self._end(job, "failed", storage_full() if is_full(error) else Problem("internal-error", what))
        else:
            if ends:
                self._end(job, "succeeded", None)

    def _end(self, job: Job, status: Status, problem: Problem | None) -> None:
        record = None if problem is None else problem_record(problem)

        def finish() -> None:
            expires = time.time() + self._settings.result_ttl_seconds
            try:
                self.store.finish(job.id, self._owner.id, status, problem=record, expires=expires)
            except Problem:
                if status != "succeeded":  # what is of no use any more makes room for the record
                    self.files.remove(job.id)
                raise
            if status == "succeeded":
                self.files.remove_uploads(job.id, job.request["files"])
            else:
                self.files.remove(job.id)

        self._record(job, finish)
        self._metrics.observe_job(job.kind, status, time.time() - job.created)

    def _record(self, job: Job, write: Callable[[], None]) -> None:
        """Write the end of a job; where the disk refuses, again later, for the job must not hang."""
        try:
            write()
        except Exception as error:
            told = log.error if isinstance(error, Problem) else log.exception
            told("the end of job %s cannot be recorded; it is tried again", job.id)
            with self._condition:
                self._unrecorded.append(functools.partial(self._record, job, write))
        self._tell(job.id)

    def _report(self, job: Job, progress: Progress) -> None:
        try:
            self.store.progress(job.id, self._owner.id, jsonable(asdict(progress)))
        except Exception as error:  # the work is worth more than the news of it
            told = log.error if isinstance(error, Problem) else log.exception
            told("the progress of job %s cannot be recorded", job.id)
        self._tell(job.id)

    def _look_after(self) -> None:
        """Every half second: what other processes left or asked for; now and then: what has expired."""
        swept = 0.0
        while True:
            if self._stopped.wait(_POLL_SECONDS):
                return
            with self._condition:
                late, self._unrecorded = self._unrecorded, []
            try:
                for again in late:
                    again()
                self._recover()
                for job_id in self.store.to_stop(self._owner.id):
                    with self._condition:
                        control = self._running.get(job_id)
                    if control is not None:
                        control.stop("cancelled")
                if self.store.queued():
                    self._wake()
                self._expire()
                if time.monotonic() - swept > _SWEEP_SECONDS:
                    swept = time.monotonic()
                    self._sweep()
            except Exception:
                log.exception("looking after the jobs failed; it is tried again")

    def _recover(self) -> None:
        most = self._settings.max_attempts
        lost = Problem(
            "worker-lost",
            f"the process that worked on the job died, {most} times: send fewer slices, or ask the operator why",
        )
        expires = time.time() + self._settings.result_ttl_seconds
        for owner in self.store.recover(
            self._owner.alive, most_attempts=most, lost=problem_record(lost), expires=expires
        ):
            log.warning("process %s died; its jobs are queued again", owner)
            self._owner.bury(owner)

    def _expire(self) -> None:
        now = time.time()
        for job_id in self.store.expire(now):
            self.files.remove(job_id)
        self.store.forget(now - self._settings.result_ttl_seconds)

    def _sweep(self) -> None:
        """Folders of jobs that were never accepted, or are forgotten."""
        old = self.files.old()
        for job_id in set(old) - self.store.known(old):
            self.files.remove(job_id)

    def _wake(self) -> None:
        with self._condition:
            self._jobs_wait = True
            self._condition.notify()

    def _tell(self, job_id: str) -> None:
        with self._condition:
            listeners = list(self._listeners.get(job_id, ()))
        for loop, event in listeners:
            with suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(event.set)

    @contextmanager
    def _timed(self, several: Sequence[Prepared]) -> Iterator[None]:
        """Learn how long work takes; of work that fails or is stopped there is nothing to learn."""
        start = time.perf_counter()
        yield
        seconds = (time.perf_counter() - start) / len(several)
        with self._condition:
            self._seconds += 0.2 * (seconds - self._seconds)
        task = several[0].task
        if task.kind == "reconstruction" and not any(task.options.values()):
            self._estimates.observe(task.methods[0], several[0].shape, seconds)
        if task.kind == "reconstruction":
            whole = seconds * len(several)
            self._metrics.observe_reconstruction(task.methods[0], whole, batch=len(several))

    @property
    def _limit(self) -> int:
        return self._settings.worker_threads + self._settings.queue_size

    def _leave(self) -> None:
        with self._condition:
            self._held -= 1

    def _give_memory_back(self, needed: int) -> None:
        with self._condition:
            self._memory -= needed

    def _late(self, limit: float) -> Problem:
        return Problem(
            "timed-out",
            f"the reconstruction was not finished after {limit:g} s: send fewer slices or iterations",
            headers=self._retry_after(self._held),
        )

    def _full(self) -> Problem:
        return self._busy(f"{self._limit} reconstructions already run or wait, as many as this service takes")

    def _jobs_full(self) -> Problem:
        most = self._settings.max_queued_jobs
        return self._busy(f"{most} jobs wait, as many as this service takes", waiting=most)

    def _busy(self, what: str, *, waiting: int | None = None) -> Problem:
        headers = self._retry_after(self._held if waiting is None else waiting)
        return Problem("busy", f"{what}: try again later", headers=headers)

    def _retry_after(self, waiting: int) -> dict[str, str]:
        """When a place is likely to be free: a part of what waits is done by then."""
        seconds = math.ceil(self._seconds * max(1, waiting) / (2 * self._settings.worker_threads))
        return {"Retry-After": str(min(max(seconds, 1), _LONGEST_RETRY))}


def open_engine(settings: Settings, parser: Parser, estimates: Estimates, metrics: Metrics | None = None) -> Engine:
    """The engine on the data folder of the settings, not started.

    Raises:
        ConfigError: the folder cannot be used.
    """
    folder = _data_folder(settings)
    files = JobFiles(folder / "jobs")
    store = SqliteStore(folder / "jobs.sqlite")
    return Engine(settings, store, files, Ownership(folder / "owners"), parser, estimates, metrics)


def check_data_folder(settings: Settings) -> None:
    """Whether jobs can be kept, before anything listens.

    Raises:
        ConfigError: the folder cannot be used.
    """
    folder = _data_folder(settings)
    JobFiles(folder / "jobs")
    SqliteStore(folder / "jobs.sqlite").close()


def _data_folder(settings: Settings) -> Path:
    state = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return settings.data_dir or Path(state) / "mri-recon"


def _four_fifths_of_memory() -> int:
    """Of the machine, or of the container where that has less."""
    size = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    with suppress(OSError, ValueError):
        size = min(size, int(Path("/sys/fs/cgroup/memory.max").read_text(encoding="ascii")))
    return size * 4 // 5
