"""A bounded pool for blocking work, so that the event loop only ever waits."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from mri_recon.service.problems import Problem

__all__ = ["Workers"]

T = TypeVar("T")

_RETRY_AFTER_SECONDS = 5


class Workers:
    """Runs jobs in threads: at most `threads` at once, at most `queue_size` more waiting, and no further.

    A thread cannot be stopped from outside: a job that misses its deadline keeps its place until it ends.
    """

    def __init__(self, *, threads: int, queue_size: int, timeout_seconds: float) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="reconstruction")
        self._limit = threads + queue_size
        self._timeout = timeout_seconds
        self._held = 0
        self._lock = threading.Lock()

    @property
    def held(self) -> int:
        """Jobs that run or wait."""
        return self._held

    def refuse_if_full(self) -> None:
        """Before an upload is read for nothing.

        Raises:
            Problem: busy.
        """
        if self._held >= self._limit:
            raise self._busy()

    async def run(self, job: Callable[[], T], *, cleanup: Callable[[], None]) -> T:
        """The job's result. `cleanup` runs once the job has ended, or at once when it will never start.

        Raises:
            Problem: busy, or timed-out; and whatever the job raises.
        """
        with self._lock:
            full = self._held >= self._limit
            self._held += not full
        if full:
            cleanup()
            raise self._busy()
        future = self._pool.submit(job)
        future.add_done_callback(lambda _: self._release(cleanup))
        waiting = asyncio.wrap_future(future)
        try:
            done, _ = await asyncio.wait({waiting}, timeout=self._timeout)
        finally:
            waiting.cancel()  # no effect on a result; a job that has not started never will
        if done:
            return waiting.result()
        raise Problem(
            "timed-out",
            f"the reconstruction was not finished after {self._timeout:g} s: send fewer slices or iterations",
            headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
        )

    def close(self) -> None:
        """Start no further job."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _release(self, cleanup: Callable[[], None]) -> None:
        with self._lock:
            self._held -= 1
        cleanup()

    def _busy(self) -> Problem:
        return Problem(
            "busy",
            f"{self._limit} reconstructions already run or wait, as many as this service takes: try again later",
            headers={"Retry-After": str(_RETRY_AFTER_SECONDS)},
        )
