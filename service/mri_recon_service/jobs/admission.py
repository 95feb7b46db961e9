"""Admit work to this process, or refuse it with the time to wait before another try.

`Admission` counts the direct requests (each holds a `Place`), the memory of direct work, and the uploads being opened.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mri_recon.methods.estimates import Estimates
from mri_recon_service.problems import Problem
from mri_recon_service.settings import Settings
from mri_recon_service.work import Prepared, Task

__all__ = ["Admission", "Place"]

_LONGEST_RETRY = 600  # seconds
_WEIGHT_OF_THE_NEWEST = 0.2


class Place:
    """A share of a bounded resource, given back once."""

    def __init__(self, release: Callable[[], None]) -> None:
        self._release: Callable[[], None] | None = release
        self._lock = threading.Lock()

    def release(self) -> None:
        """Give the place back. A second call does nothing."""
        with self._lock:
            release, self._release = self._release, None
        if release is not None:
            release()


class Admission:
    """Bounds of the work that one process takes. Safe between threads.

    Args:
        settings: the service's settings.
        estimates: estimates of memory and time.
        queued: counts the jobs that wait for any process.
        most_memory: bytes that all work may take together.
    """

    def __init__(
        self, settings: Settings, estimates: Estimates, *, queued: Callable[[], int], most_memory: int
    ) -> None:
        self._settings = settings
        self._estimates = estimates
        self._queued = queued
        self._most_memory = most_memory
        self._most_held = settings.worker_threads + settings.queue_size
        self._lock = threading.Lock()
        self._held = 0
        self._memory = 0  # of direct work that waits or is in progress
        self._opening = 0
        self._seconds = 1.0  # recent time of one piece of work

    @property
    def held(self) -> int:
        """Number of direct requests that run or wait here."""
        return self._held

    def refuse_if_full(self, *, durable: bool) -> None:
        """Refuse a request before its upload is read if there is no room for it.

        Raises:
            Problem: busy.
        """
        if durable:
            if self._queued() >= self._settings.max_queued_jobs:
                raise self.jobs_full()
        elif self._held >= self._most_held:
            raise self._full()

    def place(self) -> Place:
        """Count one more direct request until its place is released.

        Raises:
            Problem: busy.
        """
        with self._lock:
            if self._held >= self._most_held:
                raise self._full()
            self._held += 1
        return Place(self._leave)

    @contextmanager
    def opening(self) -> Iterator[None]:
        """Count one more upload that is being opened.

        Raises:
            Problem: busy.
        """
        with self._lock:
            opening = self._opening
            if opening < self._settings.max_concurrent_uploads:
                self._opening += 1
        if opening >= self._settings.max_concurrent_uploads:
            raise self.busy(f"{opening} uploads are being opened, as many as this service takes")
        try:
            yield
        finally:
            with self._lock:
                self._opening -= 1

    def hold_memory(self, needed: int) -> Place:
        """Count the memory of direct work until its place is released.

        Raises:
            Problem: busy.
        """
        with self._lock:
            refused = self._memory > 0 and self._memory + needed > self._most_memory
            if not refused:
                self._memory += needed
        if refused:
            raise self.busy("the work in progress takes all available memory")
        return Place(lambda: self._free_memory(needed))

    def check_memory(self, prepared: Prepared) -> None:
        """Refuse work that needs more memory than all work may take.

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
        """Bound the bytes that prepared work takes at once."""
        return self.memory_of(prepared.task, prepared.shape)

    def memory_of(self, task: Task, shape: Sequence[int]) -> int:
        """Bound the bytes that a task takes at once on k-space of a shape."""
        options = {name: task.options.get(name, {}) for name in task.methods}
        if task.kind == "comparison":
            return self._estimates.comparison_bytes(options, shape, check=task.fields.check)
        (method,) = task.methods
        return self._estimates.memory_bytes(method, shape, options[method], check=task.fields.check)

    def small(self, prepared: Prepared) -> bool:
        """Tell whether work is small enough to be answered at once."""
        size = self._estimates.decoded_bytes(prepared.shape) * len(prepared.task.methods)
        return size <= self._settings.sync_bytes

    def learn(self, seconds: float) -> None:
        """Update the average time of one piece of work."""
        with self._lock:
            self._seconds += _WEIGHT_OF_THE_NEWEST * (seconds - self._seconds)

    def busy(self, what: str) -> Problem:
        """Make the problem of a request that finds no room."""
        return self._busy(what, self._held)

    def jobs_full(self) -> Problem:
        """Make the problem of a job that finds the queue full."""
        most = self._settings.max_queued_jobs
        return self._busy(f"{most} jobs wait, as many as this service takes", most)

    def late(self, limit: float) -> Problem:
        """Make the problem of work that was stopped after `limit` seconds."""
        return Problem(
            "timed-out",
            f"the reconstruction was not finished after {limit:g} s: send fewer slices or iterations",
            headers=self._retry_after(self._held),
        )

    def _full(self) -> Problem:
        return self.busy(f"{self._most_held} reconstructions already run or wait, as many as this service takes")

    def _busy(self, what: str, waiting: int) -> Problem:
        return Problem("busy", f"{what}: try again later", headers=self._retry_after(waiting))

    def _retry_after(self, waiting: int) -> dict[str, str]:
        """Estimate when a place is free: about half of the waiting work is done by then."""
        seconds = math.ceil(self._seconds * max(1, waiting) / (2 * self._settings.worker_threads))
        return {"Retry-After": str(min(max(seconds, 1), _LONGEST_RETRY))}

    def _leave(self) -> None:
        with self._lock:
            self._held -= 1

    def _free_memory(self, needed: int) -> None:
        with self._lock:
            self._memory -= needed
