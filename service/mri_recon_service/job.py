"""Describe a job: accepted work that outlives the connection and the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from mri_recon.notice import RESEARCH_ONLY
from mri_recon_service.problems import Problem

__all__ = [
    "FINISHED",
    "Delivery",
    "DeliveryState",
    "Event",
    "Job",
    "Kind",
    "NewJob",
    "Status",
    "document",
    "problem_from",
    "problem_record",
]

Kind = Literal["reconstruction", "comparison"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]

DeliveryState = Literal["waiting", "sending", "delivered", "failed"]

FINISHED: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled"})
"""States that a job never leaves."""


@dataclass(frozen=True)
class NewJob:
    """A job when it is accepted.

    Attributes:
        id: identifier, made by the server, that nobody can guess.
        kind: kind of the work.
        client: name of the API key that sent it; "" if no keys are in use.
        request: the fields and files of the request, JSON-able; with the job's folder, enough to do the work.
        created: time of acceptance, in seconds since the epoch.
        deadline: time after which the client has no use for the result, in seconds since the epoch. None: no deadline.
        batch_key: jobs with equal keys may be run together. None: the job runs alone.
        memory: estimated bytes of the work.
        key: the client's `Idempotency-Key`.
        fingerprint: hash of the request, which reveals another request under the same key.
        request_id: identifier of the request that made the job, for problem documents and the log.
        deliver: name of the target to which the result is delivered. None: it is not.
        disk_bytes: bytes that its uploads and its result take on the disk, the latter estimated.
    """

    id: str
    kind: Kind
    client: str
    request: Mapping[str, Any]
    created: float
    deadline: float | None = None
    batch_key: str | None = None
    memory: int = 0
    key: str | None = None
    fingerprint: str = ""
    request_id: str = ""
    deliver: str | None = None
    disk_bytes: int = 0


@dataclass(frozen=True)
class Delivery:
    """The delivery of a job's result.

    Attributes:
        target: name of the registered target.
        state: state of the delivery. It waits until the job has succeeded.
        attempts: number of attempts so far.
        stored: instances that the target stored in the last attempt.
        instances: instances of the result; 0 before the first attempt.
        reason: why the last attempt failed, or a remark of the target.
        due: earliest time of the next attempt, in seconds since the epoch. None: at once.
        finished: end of the delivery.
    """

    target: str
    state: DeliveryState = "waiting"
    attempts: int = 0
    stored: int = 0
    instances: int = 0
    reason: str = ""
    due: float | None = None
    finished: float | None = None


@dataclass(frozen=True)
class Job(NewJob):
    """A job with its state in the store.

    Attributes:
        status: state of the job.
        owner: the process that runs it; "" unless running.
        run: identifier of the run that makes, or made, its result, among those of the job; "" where there is one only.
        started: start of the last attempt; None before.
        finished: end of the job.
        expires: time at which its result is deleted.
        attempts: number of times that a process began its work while no other work was in progress there.
        suspected: whether a process died while it worked on this job and others. The job then runs alone.
        position: place in the queue, 1 for the next; None unless queued.
        progress: the last reported progress, JSON-able.
        problem: reason of a failure: `code`, `detail` and further members.
        expired: whether the result has been deleted.
        delivery: the delivery of the result. None: there is none.
    """

    status: Status = "queued"
    owner: str = ""
    run: str = ""
    started: float | None = None
    finished: float | None = None
    expires: float | None = None
    attempts: int = 0
    suspected: bool = False
    position: int | None = None
    progress: Mapping[str, Any] | None = None
    problem: Mapping[str, Any] | None = None
    expired: bool = False
    delivery: Delivery | None = None


@dataclass(frozen=True)
class Event:
    """A change of a job.

    Attributes:
        id: number, greater than that of every earlier event.
        kind: kind of the change.
        data: JSON text: the job document, or for `progress` the progress.
    """

    id: int
    kind: Literal["status", "progress", "end"]
    data: str


def document(job: Job) -> dict[str, Any]:
    """Make the JSON-able document of a job that clients see, a `schemas.JobDocument`."""
    here = f"/v1/jobs/{job.id}"
    scan = job.request.get("sources", {}).get("file", {})
    return {
        "id": job.id,
        "kind": job.kind,
        "request": {
            "file": scan.get("name", ""),
            "sha256": scan.get("sha256", ""),
            "fields": dict(job.request.get("fields", {})),
            "idempotency_key": job.key,
        },
        "status": job.status,
        "created": _time(job.created),
        "started": _time(job.started),
        "finished": _time(job.finished),
        "expires": _time(job.expires),
        "expired": job.expired,
        "position": job.position,
        "progress": None if job.progress is None else dict(job.progress),
        "problem": None if job.problem is None else problem_from(job.problem).document(job.request_id),
        "delivery": _delivery(job),
        "links": {
            "self": here,
            "events": f"{here}/events",
            "result": f"{here}/result",
            "parts": f"{here}/parts/{{name}}",
            "methods": f"{here}/methods/{{method}}",
        },
        "research_only": RESEARCH_ONLY,
    }


def _delivery(job: Job) -> dict[str, Any] | None:
    one = job.delivery
    if one is None:
        return None
    lost = job.status in ("failed", "cancelled")
    return {
        "target": one.target,
        "state": "cancelled" if lost else one.state,
        "attempts": one.attempts,
        "stored": one.stored,
        "instances": one.instances,
        "reason": one.reason,
        "next_attempt": _time(one.due) if one.state == "waiting" and not lost else None,
        "finished": _time(one.finished),
    }


def problem_record(problem: Problem) -> dict[str, Any]:
    """Make the record of a problem that the store keeps with a job."""
    return {"code": problem.code, "detail": problem.detail, "extensions": problem.extensions}


def problem_from(record: Mapping[str, Any]) -> Problem:
    """Restore a problem from its record."""
    return Problem(record["code"], record["detail"], **record["extensions"])


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
