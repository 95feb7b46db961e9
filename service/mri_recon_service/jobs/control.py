"""Watch and stop running work through its progress callback, between iterations."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Literal

from mri_recon.errors import Cancelled
from mri_recon.progress import Progress
from mri_recon_service import clock

__all__ = ["Control", "Reason"]

Reason = Literal["cancelled", "timed-out", "stopping"]

_PERIOD = 0.2


class Control:
    """The `on_progress` callback of one piece of work. Any thread may stop the work. Reports come at most every 0.2 s.

    Args:
        deadline: `clock.now()` after which the work has to end.
        report: receives the progress. None: progress is not reported.

    Attributes:
        deadline: as given.
    """

    def __init__(self, *, deadline: float, report: Callable[[Progress], None] | None = None) -> None:
        self.deadline = deadline
        self._report = report
        self._lock = threading.Lock()
        self._reason: Reason | None = None
        self._stage: tuple[str, str] | None = None
        self._last = 0.0

    @property
    def reason(self) -> Reason | None:
        """Reason for which the work has to end; None while it may go on."""
        with self._lock:
            if self._reason is None and clock.now() >= self.deadline:
                self._reason = "timed-out"
            return self._reason

    def stop(self, reason: Reason) -> None:
        """End the work before its next iteration. Of several reasons the first counts."""
        with self._lock:
            self._reason = self._reason or reason

    def check(self) -> None:
        """Return while the work may go on.

        Raises:
            Cancelled: the work has to end.
        """
        reason = self.reason
        if reason is not None:
            raise Cancelled(reason)

    def __call__(self, progress: Progress) -> None:
        """Take the progress of an iteration.

        Raises:
            Cancelled: the work has to end.
        """
        self.check()
        if self._report is None:
            return
        now, stage = time.monotonic(), (progress.method, progress.stage)
        if stage != self._stage or now - self._last >= _PERIOD or progress.iteration == progress.total:
            self._stage, self._last = stage, now
            self._report(progress)
