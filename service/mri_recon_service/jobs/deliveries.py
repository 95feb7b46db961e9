"""Deliver the results of jobs to registered targets, in a thread, after the jobs have ended.

The queue is in the store: it survives a crash, and processes that share the store share it. Instances get the same
identifiers in every attempt, so an attempt that was cut short is repeated without harm.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from mri_recon.errors import ConfigError, MriReconError, TransferError
from mri_recon.pacs import Outcome, Retries, collect, send
from mri_recon.pacs.targets import Target
from mri_recon_service.clock import now
from mri_recon_service.http.prometheus import Metrics
from mri_recon_service.job import Delivery, DeliveryState, Job
from mri_recon_service.jobs.listeners import POLL_SECONDS, Listeners
from mri_recon_service.jobs.runner import HDF5_FILE
from mri_recon_service.problems import Problem
from mri_recon_service.settings import Settings
from mri_recon_service.storage.file_store import FileStore
from mri_recon_service.storage.store import JobStore, Owner
from mri_recon_service.targets import Targets

__all__ = ["Deliveries"]

log = logging.getLogger("mri_recon_service")

_LONGEST_WAIT = 3600.0
_AFTER_AN_ERROR = 5.0  # seconds
_MAX_REASON = 500


class _Stopping(Exception):
    """The service stops."""


@dataclass(frozen=True)
class _End:
    """How an attempt ended: `later` asks for another one."""

    stored: int
    instances: int
    reason: str = ""
    later: bool = False


@dataclass(eq=False, kw_only=True)
class Deliveries:
    """The thread that delivers results.

    Attributes:
        settings: the service's settings.
        store: keeps the jobs and their deliveries.
        files: keeps the results.
        owner: this process in the store.
        targets: the registered targets.
        listeners: notified of every change.
        metrics: the service's metrics.
    """

    settings: Settings
    store: JobStore
    files: FileStore
    owner: Owner
    targets: Targets
    listeners: Listeners
    metrics: Metrics
    _stopped: threading.Event = field(default_factory=threading.Event, init=False)
    _thread: threading.Thread | None = field(default=None, init=False)

    def start(self) -> None:
        """Start the thread. Without it, deliveries wait: other processes of the store may have it."""
        self._thread = threading.Thread(target=self._loop, name="deliveries", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask the thread to end after the instance that it sends; the delivery goes back to the queue."""
        self._stopped.set()

    def join(self, seconds: float) -> bool:
        """Wait at most `seconds` for the end of the thread, and tell whether it has ended."""
        if self._thread is None:
            return True
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while not self._stopped.is_set():
            try:
                owner = self.owner.id
                job = self.store.claim_delivery(owner, now())
                if job is not None:
                    self._attempt(job, owner)
                    continue
            except Exception as error:  # a full disk: the delivery is claimed again, by this process or the next
                told = log.error if isinstance(error, Problem) else log.exception
                told("the queue of deliveries cannot be used: the service tries again")
                self._stopped.wait(_AFTER_AN_ERROR)
            self._stopped.wait(POLL_SECONDS)

    def _attempt(self, job: Job, owner: str) -> None:
        assert job.delivery is not None
        self.listeners.tell(job.id)
        try:
            end = self._deliver(job, job.delivery)
        except _Stopping:
            self._record(lambda: self.store.release_delivery(job.id, owner))
            return
        attempts = job.delivery.attempts
        again = end.later and attempts < self.settings.max_delivery_attempts
        wait = min(self.settings.delivery_retry_seconds * 2.0 ** min(attempts - 1, 60), _LONGEST_WAIT)
        state: DeliveryState = "waiting" if again else "delivered" if end.stored == end.instances > 0 else "failed"
        self._record(
            lambda: self.store.end_delivery(
                job.id,
                owner,
                state,
                stored=end.stored,
                instances=end.instances,
                reason=end.reason[:_MAX_REASON],
                due=now() + wait if again else None,
            )
        )
        what = f"the delivery of job {job.id} to {job.delivery.target}: {end.stored} of {end.instances} stored"
        (log.info if state == "delivered" else log.warning)("%s, %s, attempt %d", what, state, attempts)
        if not again:
            self.metrics.observe_delivery(state)
        self.listeners.tell(job.id)

    def _deliver(self, job: Job, delivery: Delivery) -> _End:
        """Make one attempt.

        Raises:
            _Stopping: the service stops.
        """
        target = self.targets.find(delivery.target)
        if target is None:
            return _End(0, delivery.instances, "the target is not registered any more: ask the operator")
        with ExitStack() as stack:
            try:
                if job.expired:
                    raise FileNotFoundError
                path = stack.enter_context(self.files.result(job, HDF5_FILE))
            except FileNotFoundError:
                return _End(0, delivery.instances, "the result was deleted before it could be delivered")
            return self._send(job, delivery, target, path)

    def _send(self, job: Job, delivery: Delivery, target: Target, path: Path) -> _End:
        """Send a result.

        Raises:
            _Stopping: the service stops.
        """
        try:
            instances = collect([path]).instances
            return self._sent(send(target, instances, retries=Retries(0), on_outcome=self._check_stop))
        except TransferError as error:
            return _End(0, delivery.instances, str(error), later=error.later)
        except ConfigError as error:
            log.error("target %s: %s", delivery.target, error)
            return _End(0, delivery.instances, "the target is not set up rightly: ask the operator")
        except MriReconError as error:
            return _End(0, delivery.instances, str(error).replace(str(path), path.name))  # no path of the server
        except _Stopping:
            raise
        except Exception:  # a fault of the program or of a library: bounded attempts
            log.exception("the delivery of job %s failed", job.id)
            return _End(0, delivery.instances, "an unexpected error occurred: see the service's log", later=True)

    @staticmethod
    def _sent(outcomes: Sequence[Outcome]) -> _End:
        missing = [one for one in outcomes if not one.stored]
        remarks = [one.reason for one in missing] or [one.reason for one in outcomes if one.reason]
        return _End(
            stored=len(outcomes) - len(missing),
            instances=len(outcomes),
            reason=remarks[0] if remarks else "",
            later=any(one.later for one in missing),  # the others get there, even where one is refused for good
        )

    def _check_stop(self, _: Outcome) -> None:
        if self._stopped.is_set():
            raise _Stopping

    def _record(self, write: Callable[[], None]) -> None:
        """Record the end of an attempt. If the disk refuses, try again: the delivery must not hang."""
        while True:
            try:
                write()
                return
            except Exception as error:
                told = log.error if isinstance(error, Problem) else log.exception
                told("the end of a delivery cannot be recorded: the service tries again")
                if self._stopped.wait(_AFTER_AN_ERROR):
                    return  # the next process finds it as that of a dead one
