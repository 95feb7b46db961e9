"""Admit work to this process, or refuse it with the time to wait before another try.

`Admission` counts the direct requests and the uploads being opened, each of which holds a `Place`.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from mri_recon.methods.estimates import Estimates
from mri_recon_service.problems import Problem
from mri_recon_service.settings import Settings
from mri_recon_service.shares import Place, Shares
from mri_recon_service.work import Prepared, Task

__all__ = ["Admission"]

_LONGEST_RETRY = 600  # seconds
_WEIGHT_OF_THE_NEWEST = 0.2
_RECONSTRUCTION_PIXEL = 8 + 4 + 8 + 4 + 4  # the image in npz, magnitudes and image in HDF5, a map of trust in both
_COMPARISON_PIXEL = 4 + 1 + 4 + 8 + 16  # magnitudes, phase, map, and a part of reference and k-space in npz; HDF5


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
        self._places = Shares(settings.worker_threads + settings.queue_size, shared=settings.keys_required)
        self._opening = Shares(settings.max_concurrent_uploads, shared=settings.keys_required)
        self._lock = threading.Lock()
        self._seconds = 1.0  # recent time of one piece of work

    @property
    def held(self) -> int:
        """Number of direct requests that run or wait here."""
        return self._places.used

    def refuse_if_full(self, *, client: str, durable: bool) -> None:
        """Refuse a request before its upload is read if there is no room for it.

        Raises:
            Problem: busy.
        """
        if durable:
            if self._queued() >= self._settings.max_queued_jobs:
                raise self.jobs_full()
        elif not self._places.free_for(client):
            raise self._full()

    def place(self, client: str) -> Place:
        """Count one more direct request of a client until its place is released.

        Raises:
            Problem: busy.
        """
        place = self._places.take(client)
        if place is None:
            raise self._full()
        return place

    @contextmanager
    def opening(self, client: str) -> Iterator[None]:
        """Count one more upload of a client that is being opened.

        Raises:
            Problem: busy.
        """
        place = self._opening.take(client)
        if place is None:
            raise self.busy(f"{self._opening.used} uploads are being opened, as many as this service takes")
        try:
            yield
        finally:
            place.release()

    def check_memory(self, prepared: Prepared) -> None:
        """Refuse work that needs more memory than all work may take.

        Raises:
            Problem: too-much-memory.
        """
        needed = self.memory(prepared)
        if needed > self._most_memory:
            raise self.too_much_memory(f"k-space of shape {prepared.shape} that takes about {needed}")

    @property
    def largest_scan(self) -> int:
        """Bytes of the largest k-space for which there could be memory."""
        return self._estimates.largest_scan(self._most_memory)

    def too_much_memory(self, got: str) -> Problem:
        """Make the problem of work that needs more memory than all work may take."""
        return Problem(
            "too-much-memory",
            f"expected work that takes at most {self._most_memory} bytes of memory, got {got}: send fewer slices, or "
            "have the limit raised",
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

    @staticmethod
    def result_bytes(prepared: Prepared) -> int:
        """Estimate the bytes of the files in which the result of a job is kept."""
        slices, _, readout, phase = prepared.shape
        each = _RECONSTRUCTION_PIXEL if prepared.task.kind == "reconstruction" else _COMPARISON_PIXEL
        return slices * readout * phase * each * len(prepared.task.methods)

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
        return self._busy(what, self.held)

    def jobs_full(self) -> Problem:
        """Make the problem of a job that finds the queue full."""
        most = self._settings.max_queued_jobs
        what = "or this client's share of them"
        return self._busy(f"{most} jobs wait, as many as this service takes, {what}", most)

    def late(self, limit: float) -> Problem:
        """Make the problem of work that was stopped after `limit` seconds."""
        return Problem(
            "timed-out",
            f"the reconstruction was not finished after {limit:g} s: send fewer slices or iterations",
            headers=self._retry_after(self.held),
        )

    def _full(self) -> Problem:
        what = "as many as this service takes of all clients, or of one"
        return self.busy(f"{self.held} of {self._places.most} reconstructions already run or wait, {what}")

    def _busy(self, what: str, waiting: int) -> Problem:
        return Problem("busy", f"{what}: try again later", headers=self._retry_after(waiting))

    def _retry_after(self, waiting: int) -> dict[str, str]:
        """Estimate when a place is free: about half of the waiting work is done by then."""
        seconds = math.ceil(self._seconds * max(1, waiting) / (2 * max(1, self._settings.worker_threads)))
        return {"Retry-After": str(min(max(seconds, 1), _LONGEST_RETRY))}
