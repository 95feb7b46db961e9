"""Serve `/v1/jobs`, and `/v1/jobs/{id}`: the state, the events and the result of a job, and its cancellation."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Header, Path, Query, Request, Response
from sse_starlette import EventSourceResponse, ServerSentEvent

from mri_recon_service.answers.rendering import METHOD_OFFERS, NPZ, OFFERS
from mri_recon_service.dependencies import EngineDep
from mri_recon_service.http.audit import described_job, note
from mri_recon_service.http.negotiation import choose
from mri_recon_service.http.openapi import answer_headers, job_accepted, problem_responses
from mri_recon_service.http.preferences import read_preferences
from mri_recon_service.job import FINISHED, Job, document
from mri_recon_service.jobs.engine import Engine
from mri_recon_service.jobs.submission import client_of, job_answer, method_answer, part_answer, result_answer
from mri_recon_service.problems import Problem, shown
from mri_recon_service.schemas import JobDocument, JobList
from mri_recon_service.whole_numbers import whole_number

__all__ = ["router"]

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])

_LARGEST_EVENT = 2**63 - 1  # of SQLite

_MOST_LISTED = 200

PartName = Annotated[str, Path(description="Name of a method, or `scan`.", max_length=100)]
JobId = Annotated[str, Path(description="The job's identifier.", max_length=64)]

_EVENTS = {
    "description": "Server-sent events: `status` and `end` with the job's document, `progress` with its progress.",
    "content": {"text/event-stream": {"schema": {"type": "string"}}},
}
_PART = {
    "description": "An npz bundle with arrays that the whole result will have: `reference`, `mask` and `kspace`, or "
    "`image.METHOD`, `phase.METHOD` and `trust.METHOD`; and `metadata` (JSON).",
    "content": {NPZ: {"schema": {"type": "string", "format": "binary"}}},
}
_FILE = {
    "description": "The file of the image, as a reconstruction is answered.",
    "content": {media: {"schema": {"type": "string", "format": "binary"}} for media in METHOD_OFFERS},
    "headers": answer_headers("X-Left-Out"),
}
_RESULT = {
    "description": "The same as the direct answer, in the representation of `Accept`.",
    "content": {
        media: {"schema": {"type": "string", "format": "binary"}} for offers in OFFERS.values() for media in offers
    },
}

_ELSEWHERE = {
    "description": "`Location` is a short-lived address of the stored file, in npz or HDF5: fetch it without your API "
    "key. Only where the operator has it so, and never with `Prefer: return=representation`.",
    "headers": {"Location": {"schema": {"type": "string", "format": "uri"}, "description": "Address of the file."}},
}


@router.get("", operation_id="list_jobs", response_model=JobList, responses=problem_responses("invalid-request"))
async def jobs(
    request: Request,
    engine: EngineDep,
    limit: Annotated[int, Query(ge=1, le=_MOST_LISTED, description="Largest number of jobs.")] = 50,
    before: Annotated[
        str | None, Query(max_length=64, description="Identifier of a job; only older ones are listed.")
    ] = None,
) -> dict[str, Any]:
    """List your jobs, the newest first. Those whose results have expired stay listed for some time."""
    found = await asyncio.to_thread(engine.store.of_client, client_of(request), most=limit + 1, before=before)
    older = f"/v1/jobs?limit={limit}&before={found[limit - 1].id}" if len(found) > limit else None
    return {"jobs": [document(one) for one in found[:limit]], "next": older}


@router.get(
    "/{job_id}", operation_id="get_job", response_model=JobDocument, responses=problem_responses("job-not-found")
)
async def job(request: Request, job_id: JobId, engine: EngineDep) -> dict[str, Any]:
    """Return the state of a job."""
    return document(await _found(request, job_id, engine))


@router.get(
    "/{job_id}/events",
    operation_id="stream_job_events",
    response_class=EventSourceResponse,
    responses={
        200: _EVENTS,
        204: {"description": "The job has ended, and there is no event after Last-Event-ID: do not connect again."},
        **problem_responses("job-not-found", "invalid-header"),
    },
)
async def events(
    request: Request,
    job_id: JobId,
    engine: EngineDep,
    last_event_id: Annotated[str | None, Header(description="Send only events after this one.")] = None,
) -> Response:
    """Stream the events of a job, from its beginning or after `Last-Event-ID`, until it ends."""
    found = await _found(request, job_id, engine)
    after = _event_number(last_event_id)
    if found.status in FINISHED and not await asyncio.to_thread(engine.store.events, job_id, after=after):
        return Response(status_code=204)
    return EventSourceResponse(_stream(job_id, after, engine))


@router.get(
    "/{job_id}/result",
    operation_id="get_job_result",
    response_class=Response,
    responses={
        200: _RESULT,
        303: _ELSEWHERE,
        **problem_responses(
            "job-not-found", "not-acceptable", "job-not-finished", "job-cancelled", "result-expired", "worker-lost"
        ),
    },
)
async def result(
    request: Request,
    job_id: JobId,
    engine: EngineDep,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Return the result of a job, or the problem with which it failed."""
    found = await _found(request, job_id, engine)
    media_type = choose(accept, OFFERS[found.kind])
    return await result_answer(found, media_type, engine, may_redirect=_may_redirect(request))


@router.get(
    "/{job_id}/parts/{name}",
    operation_id="get_job_part",
    response_class=Response,
    responses={200: _PART, **problem_responses("job-not-found", "part-not-found")},
)
async def part(request: Request, job_id: JobId, name: PartName, engine: EngineDep) -> Response:
    """Return what a running comparison has so far: `scan`, or the image of a method that is done."""
    return await part_answer(await _found(request, job_id, engine), name, engine)


@router.get(
    "/{job_id}/methods/{method}",
    operation_id="get_job_method",
    response_class=Response,
    responses={
        200: _FILE,
        303: _ELSEWHERE,
        **problem_responses(
            *("job-not-found", "part-not-found", "not-acceptable", "job-not-finished", "job-cancelled"),
            *("result-expired", "worker-lost"),
        ),
    },
)
async def method(
    request: Request,
    job_id: JobId,
    method: PartName,
    engine: EngineDep,
    accept: Annotated[str | None, Header(include_in_schema=False)] = None,
) -> Response:
    """Return the image of one method of a finished comparison as a file, with its provenance."""
    found, media_type = await _found(request, job_id, engine), choose(accept, METHOD_OFFERS)
    return await method_answer(found, method, media_type, engine, may_redirect=_may_redirect(request))


@router.delete(
    "/{job_id}",
    operation_id="delete_job",
    status_code=204,
    responses={
        202: job_accepted("A waiting job is cancelled. A running job ends before its next iteration."),
        204: {"description": "The job had ended. It and its result are deleted."},
        **problem_responses("job-not-found"),
    },
)
async def delete(request: Request, job_id: JobId, engine: EngineDep) -> Response:
    """Stop a job that waits or runs, or delete one that has ended."""
    found = await _found(request, job_id, engine)
    if found.status not in FINISHED:
        stopped = await asyncio.to_thread(engine.jobs.cancel, found)
        if stopped is None:
            raise _unknown()
        if stopped.status not in FINISHED or stopped.status == "cancelled":
            return job_answer(stopped)
        found = stopped  # the job ended just now
    await asyncio.to_thread(engine.jobs.delete, found)
    return Response(status_code=204)


def _may_redirect(request: Request) -> bool:
    """Tell whether a client may be sent elsewhere: not one that refused, nor a page, which may load from here only."""
    preferences = read_preferences(request.headers.get("prefer"))
    return not preferences.representation and "sec-fetch-mode" not in request.headers


def _event_number(last_event_id: str | None) -> int:
    """Read `Last-Event-ID`; 0, before the first event, without it.

    Raises:
        Problem: invalid-header.
    """
    if not last_event_id:
        return 0
    number = whole_number(last_event_id)
    if number is None or number > _LARGEST_EVENT:
        raise Problem(
            "invalid-header",
            f"expected the id of an event in Last-Event-ID, got {shown(last_event_id)}: send the id of the last event "
            "that came, or leave the header out",
        )
    return number


async def _found(request: Request, job_id: str, engine: Engine) -> Job:
    """Look up a job of this client.

    Raises:
        Problem: job-not-found.
    """
    found = await asyncio.to_thread(engine.store.get, job_id)
    if found is None or found.client != client_of(request):
        raise _unknown()
    note(request, **described_job(found))
    return found


def _unknown() -> Problem:
    return Problem(
        "job-not-found",
        "expected the identifier of one of your jobs, got an unknown or deleted one: check it, or repeat the request",
    )


async def _stream(job_id: str, after: int, engine: Engine) -> AsyncIterator[ServerSentEvent]:
    with engine.listeners.listen(job_id) as changed:
        while True:
            for event in await asyncio.to_thread(engine.store.events, job_id, after=after):
                after = event.id
                yield ServerSentEvent(data=event.data, event=event.kind, id=str(event.id))
                if event.kind == "end":
                    return
            await engine.listeners.changed(changed)
            if await asyncio.to_thread(engine.store.get, job_id) is None:
                return  # the job is deleted
