"""Define the store of jobs, which is their queue as well.

`claim` hands the oldest waiting job to one owner and to no other. `SqliteStore` is the embedded default, for the
processes of one machine; `PostgresStore` is for those of several.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from mri_recon_service.job import DeliveryState, Event, Job, NewJob, Status

__all__ = [
    "Bounds",
    "DeliveriesFull",
    "DiskShareFull",
    "JobChange",
    "JobStore",
    "KeyInUse",
    "Owner",
    "QueueFull",
    "StoreFault",
]


class QueueFull(Exception):
    """Report that the largest allowed number of jobs waits, of all clients or of this one."""


class DiskShareFull(Exception):
    """Report that jobs take the largest allowed number of bytes on the disk, of all clients or of this one.

    Attributes:
        mine: bytes that the client's jobs take.
    """

    def __init__(self, mine: int) -> None:
        super().__init__(mine)
        self.mine = mine


class DeliveriesFull(Exception):
    """Report that the largest allowed number of deliveries waits."""


class KeyInUse(Exception):
    """Report that the client has used this idempotency key before.

    Attributes:
        job: the job of that earlier request.
    """

    def __init__(self, job: Job) -> None:
        super().__init__(job.id)
        self.job = job


StoreFault = Literal["store-busy", "store-failed"]
"""Why a store cannot be used now: another process keeps it from changes, or it cannot be read or changed at all."""


JobChange = Literal["queued", "changed", "stop"]
"""What happened to a job: it waits in the queue, there is a new event, or it is to be stopped."""


@dataclass(frozen=True)
class Bounds:
    """Bounds of the jobs in a store, of all processes together.

    Attributes:
        queued: jobs that may wait.
        deliveries: deliveries that may wait.
        disk_bytes: bytes that uploads and results of jobs may take on the disk.
        shared: whether clients share the bounds, so that one alone cannot use them up (`shares.admits`).
    """

    queued: int
    deliveries: int | None = None
    disk_bytes: int | None = None
    shared: bool = False


class Owner(Protocol):
    """This process among those that share a store: what runs here belongs to it, until it is dead."""

    @property
    def id(self) -> str:
        """Its name in the store, unique for all time."""
        ...

    def alive(self, owner: str) -> bool:
        """Tell whether an owner lives. One that was once dead stays so."""
        ...

    def bury(self, owner: str) -> None:
        """Forget a dead owner."""
        ...

    def sweep(self) -> None:
        """Forget all dead owners, also those that own no job. They stay dead."""
        ...

    def close(self) -> None:
        """Tell the others that this process is gone."""
        ...


class JobStore(Protocol):
    """The methods that the engine needs of a store. Any thread may call them. Each is one atomic step.

    If the disk is full or fails, every method raises a `Problem`, storage-full, and changes nothing. If another process
    keeps the store from changes for long, a method that changes it raises a `Problem`, busy.
    """

    def add(self, job: NewJob, bounds: Bounds) -> Job:
        """Keep a job and put it into the queue. When this returns, the job and its delivery survive a crash.

        Raises:
            QueueFull: as many jobs wait already as may.
            DiskShareFull: the job would take more room on the disk than is left for the client.
            DeliveriesFull: the job has a delivery, and as many as may have not ended.
            KeyInUse: the client used the key for another job.
        """
        ...

    def get(self, job_id: str) -> Job | None:
        """Look a job up by its identifier. Returns None if there is no such job."""
        ...

    def fault(self) -> StoreFault | None:
        """Try to read and to change the store, within about a second. Returns None if it works."""
        ...

    def of_client(self, client: str, *, most: int, before: str | None = None) -> list[Job]:
        """List the jobs of a client, the newest first.

        Args:
            client: the client.
            most: largest number of jobs.
            before: identifier of a job; only older ones are listed, none if there is no such job.
        """
        ...

    def of_all(
        self, *, most: int | None = None, client: str | None = None, statuses: Collection[Status] = ()
    ) -> list[Job]:
        """List the jobs of all clients, the newest first.

        Args:
            most: largest number of jobs. None: all.
            client: only jobs of this client.
            statuses: only jobs in these states. Empty: in any.
        """
        ...

    def by_key(self, client: str, key: str) -> Job | None:
        """Look a job up by a client's idempotency key. Returns None if the client never used the key."""
        ...

    def queued(self) -> int:
        """Count the jobs that wait."""
        ...

    def oldest_waiting(self) -> float | None:
        """Return the time of acceptance of the job that waits longest. None: no job waits."""
        ...

    def failed_with(self, code: str) -> int:
        """Count the kept jobs that failed with a problem of this code."""
        ...

    def claim(self, owner: str, *, most: int, memory: int | None = None, alone: bool = True) -> list[Job]:
        """Take the job that waits longest, and up to `most - 1` others of its batch key. Their status becomes running.

        A job that was lost, with others, together with its process is taken by itself.

        Args:
            owner: the process that will run them.
            most: largest number of jobs.
            memory: largest sum of their estimated bytes. None: no bound.
            alone: whether the process does no other work. If not, nothing is taken before a suspected job.
        """
        ...

    def begin(self, owner: str, jobs: Sequence[str], *, alone: bool, waiting: Sequence[str] = ()) -> None:
        """Note, for the case that the process dies, which of its jobs it works on. A crash of the machine may lose it.

        Args:
            owner: the process.
            jobs: jobs whose work begins. If it is `alone`, this is an attempt.
            alone: whether the process does no other work meanwhile.
            waiting: further jobs of the owner, whose work has not begun, or begins anew later.
        """
        ...

    def progress(self, job_id: str, owner: str, progress: Mapping[str, Any]) -> None:
        """Record the progress of a running job. A crash of the machine may lose it."""
        ...

    def finish(
        self,
        job_id: str,
        owner: str,
        status: Status,
        *,
        problem: Mapping[str, Any] | None,
        expires: float,
        disk_bytes: int = 0,
    ) -> bool:
        """End a running job of the owner, whose result takes `disk_bytes` on the disk.

        Returns False, and changes nothing, if the owner runs no such job.
        """
        ...

    def release(self, job_id: str, owner: str) -> None:
        """Put a running job of the owner back to its place in the queue, without counting the attempt."""
        ...

    def cancel(self, job_id: str, *, expires: float) -> Job | None:
        """End a waiting job, or mark a running one to be stopped. Returns the job in its new state, or None."""
        ...

    def to_stop(self, owner: str) -> set[str]:
        """List the running jobs of the owner that are marked to be stopped."""
        ...

    def recover(
        self, alive: Callable[[str], bool], *, most_attempts: int, lost: Mapping[str, Any], expires: float
    ) -> list[str]:
        """Queue the running jobs of dead owners again, or end them with the problem `lost` after `most_attempts`.

        Only a job that its owner worked on alone has used an attempt. One that it worked on beside others is suspected:
        it runs alone from now on. One that it had only taken is as it was. Their deliveries wait again.

        Returns:
            The dead owners.
        """
        ...

    def delete(self, job_id: str) -> bool:
        """Delete a finished job. Returns False if there is no such job."""
        ...

    def expire(self, now: float) -> list[str]:
        """Mark the jobs whose results have expired, and return their identifiers."""
        ...

    def forget(self, before: float) -> list[str]:
        """Delete the jobs whose results expired before a time, and return their identifiers."""
        ...

    def scrub(self) -> None:
        """Remove what is left of deleted jobs from the disk, where others do not read it just then."""
        ...

    def known(self, job_ids: list[str]) -> set[str]:
        """Select those of the jobs that the store has."""
        ...

    def events(self, job_id: str, *, after: int) -> list[Event]:
        """List the events of a job that came after the event with the identifier `after`."""
        ...

    def waiting_deliveries(self) -> int:
        """Count the deliveries that have not ended, of jobs that may still succeed or have."""
        ...

    def claim_delivery(self, owner: str, now: float) -> Job | None:
        """Take the delivery that is due longest, of a job that has succeeded, and count an attempt; None if none is."""
        ...

    def end_delivery(
        self,
        job_id: str,
        owner: str,
        state: DeliveryState,
        *,
        stored: int,
        instances: int,
        reason: str,
        due: float | None,
    ) -> None:
        """Record how an attempt of the owner ended. Nothing changes if the owner has no such delivery.

        Args:
            job_id: the job.
            owner: the process that made the attempt.
            state: "waiting" for another attempt, from `due` on.
            stored, instances, reason, due: see `Delivery`.
        """
        ...

    def release_delivery(self, job_id: str, owner: str) -> None:
        """Let a delivery of the owner wait again, without counting the attempt."""
        ...

    def follow(self, changed: Callable[[JobChange, str], None]) -> None:
        """Call `changed`, from a thread, for each change of a job by any process, until the store is closed.

        It only saves time: a change may be missed, and a store of one machine calls it for none.
        """
        ...

    def close(self) -> None:
        """Close the store. No further call follows."""
        ...
