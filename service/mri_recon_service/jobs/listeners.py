"""Wake the event-loop tasks that wait for news of a job."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

__all__ = ["POLL_SECONDS", "Listeners"]

POLL_SECONDS = 0.5
"""Longest delay until a change that another process made is noticed."""


class Listeners:
    """Event-loop tasks by the job that they wait for. Worker threads call `tell`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._of_job: dict[str, list[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = {}

    @contextmanager
    def listen(self, job_id: str) -> Iterator[asyncio.Event]:
        """Provide an event that is set when this process changes a job. Changes by other processes do not set it."""
        entry = (asyncio.get_running_loop(), asyncio.Event())
        with self._lock:
            self._of_job.setdefault(job_id, []).append(entry)
        try:
            yield entry[1]
        finally:
            with self._lock:
                entries = self._of_job[job_id]
                entries.remove(entry)
                if not entries:
                    del self._of_job[job_id]

    async def changed(self, event: asyncio.Event, seconds: float = POLL_SECONDS) -> None:
        """Wait until a listener's event is set, at most `POLL_SECONDS`, so that the caller sees other processes too."""
        with suppress(TimeoutError):
            async with asyncio.timeout(min(seconds, POLL_SECONDS)):
                await event.wait()
        event.clear()

    def tell(self, job_id: str) -> None:
        """Set the events of all tasks that listen to a job."""
        with self._lock:
            entries = list(self._of_job.get(job_id, ()))
        for loop, event in entries:
            with suppress(RuntimeError):  # its loop has ended
                loop.call_soon_threadsafe(event.set)
