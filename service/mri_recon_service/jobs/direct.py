"""Answer requests whose clients wait for the result. The work lives in memory and ends with its connection."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from mri_recon.errors import Cancelled
from mri_recon_service.clock import now
from mri_recon_service.jobs.admission import Admission
from mri_recon_service.jobs.control import Control
from mri_recon_service.jobs.performer import Performer
from mri_recon_service.jobs.schedule import Schedule
from mri_recon_service.problems import stopping
from mri_recon_service.shares import Place
from mri_recon_service.work import Outcome, Prepared, batch_key

__all__ = ["Direct", "DirectWork"]

T = TypeVar("T")


@dataclass(eq=False)
class Direct(Generic[T]):
    """One piece of work whose client waits for it, a `schedule.Piece`."""

    prepared: Prepared
    render: Callable[[Outcome], T]
    control: Control
    place: Place
    key: str | None
    memory: int
    future: Future[T] = field(default_factory=Future)


@dataclass(eq=False, kw_only=True)
class DirectWork:
    """Direct work of one process: `answer` queues it from the event loop, worker threads `run` it.

    Attributes:
        admission: bounds its memory.
        schedule: holds it until a thread is free.
        performer: runs it.
        timeout_seconds: longest time from a request to its answer.
    """

    admission: Admission
    schedule: Schedule[Direct[Any]]
    performer: Performer
    timeout_seconds: float

    async def answer(
        self,
        prepared: Prepared,
        render: Callable[[Outcome], T],
        *,
        place: Place,
        arrived: float,
        left: Callable[[], Awaitable[None]],
    ) -> T:
        """Do work that its client waits for, and return the rendered result.

        Args:
            prepared: the work.
            render: makes the answer, in the worker's thread.
            place: released when the work has ended, which may be after this returns.
            arrived: `clock.now()` of the request.
            left: returns when the client is gone. The work then ends before its next iteration.

        Raises:
            Problem: busy, timed-out, or the library refuses the work.
        """
        limit = min(prepared.task.fields.deadline_seconds or math.inf, self.timeout_seconds)
        control = Control(deadline=arrived + limit)
        item = Direct(prepared, render, control, place, batch_key(prepared), self.admission.memory(prepared))
        self._enqueue(item)
        waiting: asyncio.Future[Any] = asyncio.wrap_future(item.future)
        leaving: asyncio.Future[Any] = asyncio.ensure_future(left())
        try:
            await asyncio.wait(
                [waiting, leaving], timeout=max(0.0, arrived + limit - now()), return_when="FIRST_COMPLETED"
            )
        finally:
            leaving.cancel()
            if not waiting.done():
                control.stop("cancelled" if leaving.done() and not leaving.cancelled() else "timed-out")
                if self.schedule.withdraw(item):
                    self._abandon(item)
        if waiting.done():
            try:
                result: T = waiting.result()
                return result
            except Cancelled as error:
                raise self.admission.late(limit) from error
        waiting.cancel()
        raise self.admission.late(limit)

    def run(self, items: Sequence[Direct[Any]]) -> None:
        """Do work that the schedule handed out together. Errors go to the clients that wait."""
        begun = [item for item in items if self._begin(item)]
        outcomes = self.performer.together([item.prepared for item in begun])
        for item, outcome in zip(begun, outcomes, strict=True):
            try:
                item.control.check()
                result = item.render(outcome or self.performer.alone(item.prepared, item.control))
            except BaseException as error:
                item.place.release()
                item.future.set_exception(error)
            else:
                item.place.release()
                item.future.set_result(result)

    def abandon(self, items: Sequence[Direct[Any]]) -> None:
        """Cancel work that will not begin."""
        for item in items:
            self._abandon(item)

    def _enqueue(self, item: Direct[Any]) -> None:
        if not self.schedule.add(item):
            self._abandon(item)
            raise stopping()

    @staticmethod
    def _begin(item: Direct[Any]) -> bool:
        if item.future.set_running_or_notify_cancel():
            return True
        item.place.release()
        return False

    @staticmethod
    def _abandon(item: Direct[Any]) -> None:
        item.place.release()
        item.future.cancel()
