"""What a job is: accepted work that outlives the connection and the process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from mri_recon.notice import RESEARCH_ONLY
from mri_recon_service.problems import Problem

__all__ = ["FINISHED", "Event", "Job", "Kind", "NewJob", "Status", "document", "problem_from", "problem_record"]

Kind = Literal["reconstruction", "comparison"]
Status = Literal["queued", "running", "succeeded", "failed", "cancelled"]

FINISHED: frozenset[Status] = frozenset({"succeeded", "failed", "cancelled"})
"""A job in one of these states stays there."""


@dataclass(frozen=True)
class NewJob:
    """What is known of a job when it is accepted.

    Attributes:
        id: of the server's making, unguessable.
        kind: what is to be done.
        client: who sent it; "" where no keys are in use.
        request: fields and files as they came, JSON-able; enough to do the work from the job's folder.
        created: seconds since the epoch.
        deadline: seconds since the epoch after which the result is of no use; None: no such time.
        batch_key: jobs with an equal one may be run together; None: alone.
        memory: bytes that the work is estimated to take.
        key: the client's `Idempotency-Key`.
        fingerprint: of the request, to tell another request under the same key.
        request_id: of the request that made the job, for problem documents and the log.
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


@dataclass(frozen=True)
class Job(NewJob):
    """A job as the store knows it.

    Attributes:
        status: where it stands.
        started: when the last attempt began; None before.
        finished: when it reached its last state.
        expires: when its result is deleted.
        attempts: how many times a process took it up.
        position: place in the queue, 1 for the next; None unless queued.
        progress: the last progress that was reported, JSON-able.
        problem: why it failed: `code`, `detail` and further members.
        expired: the result has been deleted.
    """

    status: Status = "queued"
    started: float | None = None
    finished: float | None = None
    expires: float | None = None
    attempts: int = 0
    position: int | None = None
    progress: Mapping[str, Any] | None = None
    problem: Mapping[str, Any] | None = None
    expired: bool = False


@dataclass(frozen=True)
class Event:
    """Something that happened to a job.

    Attributes:
        id: greater than that of every earlier event.
        kind: what it says.
        data: JSON text: the job document, or for `progress` the progress.
    """

    id: int
    kind: Literal["status", "progress", "end"]
    data: str


def document(job: Job) -> dict[str, Any]:
    """The job as clients see it, JSON-able; see `schemas.JobDocument`."""
    here = f"/v1/jobs/{job.id}"
    return {
        "id": job.id,
        "kind": job.kind,
        "status": job.status,
        "created": _time(job.created),
        "started": _time(job.started),
        "finished": _time(job.finished),
        "expires": _time(job.expires),
        "position": job.position,
        "progress": None if job.progress is None else dict(job.progress),
        "problem": None if job.problem is None else problem_from(job.problem).document(job.request_id),
        "links": {"self": here, "events": f"{here}/events", "result": f"{here}/result"},
        "research_only": RESEARCH_ONLY,
    }


def problem_record(problem: Problem) -> dict[str, Any]:
    """A problem as it is stored with a job."""
    return {"code": problem.code, "detail": problem.detail, "extensions": problem.extensions}


def problem_from(record: Mapping[str, Any]) -> Problem:
    """The problem that was stored with a job."""
    return Problem(record["code"], record["detail"], **record["extensions"])


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
