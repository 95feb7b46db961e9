"""How running work is watched and stopped: between its iterations, by what it is called back with."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from mri_recon.errors import Cancelled
from mri_recon.progress import Progress

__all__ = ["Control", "Reason"]

Reason = Literal["cancelled", "timed-out", "stopping"]

_PERIOD = 0.2


class Control:
    """The `on_progress` of one piece of work. Any thread may stop it; reports are at most one in a fifth of a second.

    Args:
        deadline: `time.time()` after which the work is to end.
        report: takes the progress that gets through.
    """

    def __init__(self, *, deadline: float, report: Callable[[Progress], None] | None = None) -> None:
        self._deadline = deadline
        self._report = report
        self._lock = threading.Lock()
        self._reason: Reason | None = None
        self._stage: tuple[str, str] | None = None
        self._last = 0.0

    @property
    def reason(self) -> Reason | None:
        """Why the work is to end; None while it may go on."""
        with self._lock:
            if self._reason is None and time.time() >= self._deadline:
                self._reason = "timed-out"
            return self._reason

    def stop(self, reason: Reason) -> None:
        """Let the work end before its next iteration; the first reason stays."""
        with self._lock:
            self._reason = self._reason or reason

    def check(self) -> None:
        """Go on, or not.

        Raises:
            Cancelled: the work is to end.
        """
        reason = self.reason
        if reason is not None:
            raise Cancelled(reason)

    def __call__(self, progress: Progress) -> None:
        """Hear of an iteration.

        Raises:
            Cancelled: the work is to end.
        """
        self.check()
        if self._report is None:
            return
        now, stage = time.monotonic(), (progress.method, progress.stage)
        if stage != self._stage or now - self._last >= _PERIOD or progress.iteration == progress.total:
            self._stage, self._last = stage, now
            self._report(progress)
