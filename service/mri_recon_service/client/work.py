"""Send work to the service as jobs, and find jobs again."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Literal, TypeAlias

from mri_recon.errors import ConfigError
from mri_recon_service.client.answers import document_of
from mri_recon_service.client.caller import Caller
from mri_recon_service.client.errors import ServiceError
from mri_recon_service.client.job import RemoteJob, ReportProgress
from mri_recon_service.client.results import Comparison, Image
from mri_recon_service.client.scans import MaskInput, ScanInput, source_of, upload_call
from mri_recon_service.client.wire import Call

__all__ = ["Kind", "completed", "list_jobs", "submitted"]

Kind: TypeAlias = Literal["reconstruction", "comparison"]

_PATHS: Mapping[Kind, str] = {"reconstruction": "/v1/reconstructions", "comparison": "/v1/compare"}
_CANCEL_PATIENCE = 10.0
_MOST_LISTED = 200  # by one answer
_LOOKS, _LOOK_PAUSE = 8, 0.25


async def list_jobs(caller: Caller, limit: int, *, patience: float | None = None) -> list[RemoteJob]:
    """List the newest jobs of the client's key, the newest first.

    Raises:
        ServiceError: the service cannot be reached.
        ConfigError: a limit below 1.
    """
    if limit < 1:
        raise ConfigError(f"limit: expected at least 1, got {limit}: ask for one job or more")
    jobs: list[RemoteJob] = []
    query: dict[str, str] = {}
    while True:
        query["limit"] = str(min(limit - len(jobs), _MOST_LISTED))
        document = document_of(
            await caller.ask(Call("GET", "/v1/jobs", query=query), patience=patience), caller.address
        )
        for one in document.get("jobs", []):
            jobs.append(RemoteJob(caller, str(one.get("id"))))
            jobs[-1].learn(one)
        if len(jobs) >= limit or not document.get("next") or not jobs:
            return jobs
        query["before"] = jobs[-1].id


async def submitted(
    caller: Caller, kind: Kind, scan: ScanInput, mask: MaskInput, texts: Mapping[str, str], *, key: str | None
) -> RemoteJob:
    """Send work as a job, under an idempotency key: sent twice, it is one job.

    Args:
        caller: sends the request.
        kind: kind of the work.
        scan: the scan.
        mask: its mask.
        texts: fields of the request.
        key: the idempotency key; a new one by default.

    Raises:
        ServiceError: the service refuses the work, or cannot be reached.
        FormatError, ShapeError: the scan or the mask cannot be sent.
    """
    headers = {"Idempotency-Key": key or _new_key(), "Prefer": "respond-async"}
    with ExitStack() as stack:
        call = await upload_call(caller.transport, _PATHS[kind], scan, mask, texts, stack)
        answer = await caller.ask(replace(call, headers=headers))
    document = document_of(answer, caller.address)
    job = RemoteJob(caller, str(document.get("id")), source=source_of(scan))
    job.learn(document)
    return job


async def completed(
    caller: Caller,
    kind: Kind,
    scan: ScanInput,
    mask: MaskInput,
    texts: Mapping[str, str],
    *,
    key: str | None,
    report: ReportProgress | None,
) -> tuple[RemoteJob, Image | Comparison]:
    """Send work as a job, wait for it and fetch its result. An interruption cancels the job.

    Ctrl-C, the cancellation of a task and what `report` raises are interruptions; errors of the service are none.

    Raises:
        ServiceError: the job fails, or the service cannot be reached; then the job goes on.
        FormatError, ShapeError: as `submitted`.
    """
    own_key = key or _new_key()
    transport = caller.transport
    try:
        job = await submitted(caller, kind, scan, mask, texts, key=own_key)
    except Exception:
        raise  # it was refused, or cannot be sent
    except BaseException as interruption:
        await transport.sheltered(partial(_abandon, caller, None, own_key, interruption))
        raise
    try:
        await job.wait(report)
        return job, await job.load()
    except ServiceError as error:
        error.job_id = error.job_id or job.id
        raise
    except BaseException as interruption:
        await transport.sheltered(partial(_abandon, caller, job, own_key, interruption))
        raise


def _new_key() -> str:
    return uuid.uuid4().hex


async def _abandon(caller: Caller, job: RemoteJob | None, key: str, reason: BaseException) -> None:
    """Cancel the job of an interrupted call; `job` is None if the service may have accepted it and could not say so."""
    try:
        job = job or await _job_of(caller, key)
        if job is not None:
            await job.cancel(patience=_CANCEL_PATIENCE)
    except ServiceError as error:
        named = f"the job {job.id}" if job else "the job"
        reason.add_note(f"{named} could not be cancelled and may go on: {error}")


async def _job_of(caller: Caller, key: str) -> RemoteJob | None:
    """Find the job of an idempotency key. The service may be about to accept it, so it is looked for several times."""
    for _ in range(_LOOKS):
        for job in await list_jobs(caller, _MOST_LISTED, patience=_CANCEL_PATIENCE):
            if job.document is not None and job.document.get("request", {}).get("idempotency_key") == key:
                return job
        await caller.transport.pause(_LOOK_PAUSE)
    return None
