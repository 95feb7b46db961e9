"""Run work on the service's device, and learn how long it takes."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from mri_recon.methods.estimates import Estimates
from mri_recon.progress import OnProgress
from mri_recon.results.comparison import Comparison
from mri_recon_service.http.prometheus import Metrics
from mri_recon_service.jobs.admission import Admission
from mri_recon_service.work import Outcome, Prepared, perform, perform_batch

__all__ = ["Performer"]

log = logging.getLogger("mri_recon_service")


@dataclass(eq=False, kw_only=True)
class Performer:
    """Runs prepared work in the calling thread.

    Attributes:
        device: device on which the library computes.
        admission: learns the time of one piece of work, for `Retry-After`.
        estimates: learns the time of a method.
        metrics: the service's metrics.
    """

    device: str
    admission: Admission
    estimates: Estimates
    metrics: Metrics

    def alone(
        self, prepared: Prepared, on_progress: OnProgress, *, on_change: Callable[[Comparison], None] | None = None
    ) -> Outcome:
        """Run one piece of work. `on_change` receives an unfinished comparison, as in `compare_recipes`.

        Raises:
            Problem: the library refuses the work.
            Cancelled: as `on_progress` raised it.
        """
        with self._timed([prepared]):
            return perform(prepared, device=self.device, on_progress=on_progress, on_change=on_change)

    def together(self, several: Sequence[Prepared]) -> list[Outcome | None]:
        """Run work of one batch key in one run of its network.

        Returns:
            The outcomes in order. None stands for work that must run alone: a single piece, or every piece of a failed
            batch, so that only the request that causes the error receives it.
        """
        if len(several) > 1:
            try:
                with self._timed(several):
                    return [*perform_batch(several, device=self.device)]
            except Exception:
                log.warning("a batch of %d failed; its requests are done one by one", len(several))
        return [None] * len(several)

    @contextmanager
    def _timed(self, several: Sequence[Prepared]) -> Iterator[None]:
        """Learn the time of the block. A block that fails or is stopped teaches nothing."""
        start = time.perf_counter()
        yield
        whole = time.perf_counter() - start
        seconds = whole / len(several)
        self.admission.learn(seconds)
        task = several[0].task
        if task.kind == "reconstruction":
            if not any(task.options.values()) and task.fields.check is None:
                self.estimates.observe(task.methods[0], several[0].shape, seconds)
            self.metrics.observe_reconstruction(task.methods[0], whole, batch=len(several))
